"""Measured, not asserted: each benchmark prints one JSON object and keeps it in results/."""
