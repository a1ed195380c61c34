"""Stage 7: what is published."""
