"""A folder of documents."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import Field

from commonroot.artifact import text_sha256
from commonroot.errors import DataError
from ingest.fetch import FetchConfig
from ingest.sources.found import TEXT, Found, Source, sha256_of

__all__ = ["FilesConfig"]

TYPES = {
    ".html": "text/html", ".htm": "text/html", ".txt": "text/plain", ".md": "text/plain",
    ".jsonl": "application/jsonl", ".parquet": "application/vnd.apache.parquet",
}
ROWS = 256
"""Rows of a parquet file that are in memory at once."""


class FilesConfig(Source):
    """Documents that lie on disk already."""

    kind: ClassVar[str] = "file"

    folder: str | None = None
    """Folder of .html, .txt and .md files, one document each, and of .jsonl and .parquet files with
    a document (`text` and, if known, `url`) a line or row."""
    file_bytes: int = Field(default=50_000_000, ge=1)
    """Bytes of one document; a longer one is dropped."""

    @property
    def wanted(self) -> bool:
        """Whether there is a folder."""
        return bool(self.folder)

    def fingerprint(self) -> str:
        """Over names and bytes of all files."""
        folder = Path(self.folder or ".")
        paths = _files(folder)
        if not paths:
            raise DataError(f"gather.files.folder {folder} holds no {', '.join(TYPES)} file")
        return text_sha256([[_name(path, folder) for path in paths], sha256_of(paths)])

    def without_paths(self) -> "FilesConfig":
        """With `given` for the folder."""
        return self.model_copy(update={"folder": "given"})

    def documents(self, fetch: FetchConfig, scratch: Path) -> Iterator[Found]:
        """Addresses say where in the folder a document stood, unless it knows its own."""
        del fetch, scratch
        folder = Path(self.folder or ".")
        for path in _files(folder):
            url = f"file:///{_name(path, folder)}"
            for found in _documents(path, url):
                long = len(found.body) > self.file_bytes
                yield Found(found.url, decision="too-large") if long else found


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in TYPES)


def _name(path: Path, folder: Path) -> str:
    return quote(path.relative_to(folder).as_posix())


def _documents(path: Path, url: str) -> Iterator[Found]:
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                text, own = _line(line)
                yield Found(own or f"{url}?line={number}", TEXT, text.encode())
    elif suffix == ".parquet":
        yield from _rows(path, url)
    else:
        yield Found(url, TYPES[suffix], path.read_bytes())


def _line(line: bytes) -> tuple[str, str]:
    try:
        entry = json.loads(line)
        return str(entry["text"]), str(entry.get("url") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""


def _rows(path: Path, url: str) -> Iterator[Found]:
    """A document a row; of what is damaged each group of rows is one finding."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            columns = [name for name in ("text", "url") if name in file.schema_arrow.names]
            if "text" not in columns:
                yield Found(url, decision="no-text-column")
                return
            first = 0
            for group in range(file.num_row_groups):
                yield from _row_group(file, group, columns, url, first)
                first += file.metadata.row_group(group).num_rows
    except (pa.ArrowException, OSError) as error:
        yield Found(f"{url}?after=0", decision="damaged-file", detail=type(error).__name__)


def _row_group(file: Any, group: int, columns: list[str], url: str, first: int) -> Iterator[Found]:
    """Rows of one group, the file's `first` on; what cannot be read of it is one finding."""
    import pyarrow as pa

    number, end, why = first, first + file.metadata.row_group(group).num_rows, "fewer than promised"
    try:
        for batch in file.iter_batches(ROWS, row_groups=[group], columns=columns):
            for row in batch.to_pylist():
                number += 1
                own = str(row.get("url") or "") or f"{url}?row={number}"
                yield Found(own, TEXT, str(row["text"] or "").encode())
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = type(error).__name__
    if number < end:
        detail = f"{why}: {end - number} rows are lost"
        yield Found(f"{url}?after={number}", decision="damaged-file", detail=detail)
