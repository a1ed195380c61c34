"""Extraction of main text, beside other extractors, on pages with known truth."""
