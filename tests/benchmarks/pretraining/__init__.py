"""The lines of `python -m tests.benchmarks.pretrain`, one file each."""
