"""Corpus -> base model: a stock `transformers` checkpoint trained on public text only."""
