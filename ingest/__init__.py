"""Public web -> web archive -> corpus."""

__all__: list[str] = []
