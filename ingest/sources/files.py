"""A folder of documents -> the same archive that the crawler fills."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import Field

from commonroot.artifact import file_sha256, text_sha256
from commonroot.config import Section
from commonroot.errors import DataError
from ingest.archive import Archive

__all__ = ["FilesConfig", "fingerprint", "gather"]

TYPES = {
    ".html": "text/html", ".htm": "text/html", ".txt": "text/plain", ".md": "text/plain",
    ".jsonl": "application/jsonl",
}


class FilesConfig(Section):
    """Documents that lie on disk already."""

    folder: str | None = None
    """Folder of .html, .txt, .md and .jsonl files (`text` and, if known, `url` a line)."""
    file_bytes: int = Field(default=50_000_000, ge=1)
    """Bytes of one file; a longer one is dropped."""


def fingerprint(config: FilesConfig) -> str:
    """sha256 over names and bytes of the folder's documents, "" without a folder.

    Raises DataError if the folder cannot be read or holds no document.
    """
    if not config.folder:
        return ""
    folder = Path(config.folder)
    found = list(_documents(folder))
    if not found:
        raise DataError(f"gather.files.folder {folder} holds no {', '.join(TYPES)} file")
    try:
        return text_sha256([[_name(path, folder), file_sha256(path)] for path in found])
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from None


def gather(config: FilesConfig, folder: Path, warc: Archive) -> str:
    """Write all documents into the archive; returns their lines for fetches.jsonl."""
    lines = []
    for path in _documents(folder):
        for url, kind, body in _pieces(path, folder):
            decision = "too-large" if len(body) > config.file_bytes else "kept"
            decision = decision if body else "unreadable"
            if decision == "kept":
                warc.add_resource(url, kind, body)
            lines.append(json.dumps(_record(url, decision, body), ensure_ascii=False) + "\n")
    warc.commit()
    return "".join(lines)


def _documents(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in TYPES)


def _name(path: Path, folder: Path) -> str:
    return quote(path.relative_to(folder).as_posix())


def _pieces(path: Path, folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """(address, media type, bytes) of a file's documents; addresses never show where it lay."""
    url = f"file:///{_name(path, folder)}"
    kind = TYPES[path.suffix.lower()]
    if kind != "application/jsonl":
        yield url, kind, path.read_bytes()
        return
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        text, own = _line(line)
        yield own or f"{url}?line={number}", "text/plain; charset=utf-8", text.encode()


def _line(line: bytes) -> tuple[str, str]:
    try:
        entry = json.loads(line)
        return str(entry["text"]), str(entry.get("url") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""


def _record(url: str, decision: str, body: bytes) -> dict[str, Any]:
    return {
        "url": url, "kind": "file", "decision": decision, "detail": "", "status": None,
        "sha256": text_sha256(body.decode("latin-1")), "bytes": len(body), "depth": 0,
        "opt_out": None,
    }
