"""The Flower app: all the code that travels to the nodes (the FAB packs this folder only)."""
