"""Parts of the benchmark of outbound proxies."""
