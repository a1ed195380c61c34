"""One file an algorithm; more come by the entry-point group `commonroot.strategies`."""
