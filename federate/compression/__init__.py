"""Fewer bytes: what travels, encoded."""
