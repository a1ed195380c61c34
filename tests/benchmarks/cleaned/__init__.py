"""What the benchmark of cleaning is made of."""
