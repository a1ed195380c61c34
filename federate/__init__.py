"""Base model and private shards to a federated checkpoint."""
