"""Stage 6: federated beside centralised beside local-only."""
