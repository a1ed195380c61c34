"""Stage 4: private text -> clients."""
