"""The lines of tests.benchmarks.crawling."""
