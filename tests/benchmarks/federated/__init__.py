"""The lines of issue 3, a file a topic; `python -m tests.benchmarks.federate` measures them."""
