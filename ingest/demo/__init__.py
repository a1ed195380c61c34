"""A web site on loopback with real text, real trouble and known truth.

Nothing outside this folder knows what the site holds; gather starts it and crawls it over HTTP.
"""

__all__: list[str] = []
