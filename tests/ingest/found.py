"""What a source finds, all at once."""

from pathlib import Path

from ingest.fetch import FetchConfig
from ingest.sources.found import Found, Source


def found_in(source: Source, fetch: FetchConfig | None = None) -> list[Found]:
    return list(source.documents(fetch or FetchConfig(), Path()))
