"""Where public text comes from: one file a source, each writing the same web archive."""

__all__: list[str] = []
