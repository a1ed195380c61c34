"""What every source that is no crawl has in common: it finds documents, one after the other."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from commonroot.artifact import file_sha256, text_sha256
from commonroot.config import Section
from commonroot.errors import DataError
from ingest.archive import Archive
from ingest.fetch import FetchConfig, Response
from ingest.optout import OptOut

__all__ = ["TEXT", "Found", "Source", "files_under", "gather", "sha256_of"]

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Found:
    """A document, or why one is none."""

    url: str
    """Where it belongs; never where it lay on this disk."""
    media_type: str = ""
    body: bytes = b""
    decision: str = "kept"
    """`kept`, or the reason for which it is not."""
    detail: str = ""
    licence: str = ""
    """Address of the licence, if the source knows it."""
    response: Response | None = None
    """The HTTP answer that it once was."""
    opt_out: OptOut | None = None


class Source(Section, ABC):
    """A table under [gather]. A class of another package becomes one by an entry point of group
    `commonroot.sources`; its table is then [gather.more.NAME]."""

    kind: ClassVar[str]
    """What its documents are called in fetches.jsonl."""

    @property
    @abstractmethod
    def wanted(self) -> bool:
        """Whether the config names anything to read."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes when what is read changes. Raises DataError if it cannot be read."""

    def without_paths(self) -> "Source":
        """The same without where on this disk it reads: what the artifact's manifest shows."""
        return self

    @abstractmethod
    def documents(self, fetch: FetchConfig, scratch: Path) -> Iterator[Found]:
        """All documents in a fixed order.

        `fetch` says how to behave towards servers; `scratch` is a folder of this source's own that
        outlives a kill of the stage.
        """


def gather(source: Source, fetch: FetchConfig, scratch: Path, warc: Archive) -> str:
    """Write all documents into the archive; returns their lines for fetches.jsonl."""
    scratch.mkdir(exist_ok=True)
    lines, seen = [], set()
    for found in source.documents(fetch, scratch):
        decision = found.decision
        if decision == "kept" and not found.body:
            decision = "unreadable"
        if found.url in seen:
            decision = "repeated"
        elif found.response is not None:
            warc.add(found.response)
        elif decision == "kept":
            warc.add_resource(found.url, found.media_type, found.body, found.licence)
        seen.add(found.url)
        record = _record(found, source.kind, decision)
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    warc.commit()
    return "".join(lines)


def files_under(paths: tuple[str, ...], endings: tuple[str, ...], key: str) -> list[Path]:
    """These files, and those with one of `endings` in these folders, sorted.

    Raises DataError, naming config key `key`, for a path that is not there or holds none.
    """
    found: list[Path] = []
    for given in map(Path, paths):
        inside = sorted(path for path in given.rglob("*") if path.name.lower().endswith(endings))
        if not given.is_file() and not inside:
            raise DataError(f"{key} {given} is no file and holds no {', '.join(endings)} file")
        found += [given] if given.is_file() else inside
    return found


def sha256_of(paths: list[Path]) -> str:
    """Over the bytes of these files, in order. Raises DataError for one that cannot be read."""
    try:
        return text_sha256([[path.name, file_sha256(path)] for path in paths])
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from None


def _record(found: Found, kind: str, decision: str) -> dict[str, Any]:
    return {
        "url": found.url, "kind": kind, "decision": decision, "detail": found.detail,
        "status": found.response.status if found.response else None,
        "sha256": hashlib.sha256(found.body).hexdigest(), "bytes": len(found.body), "depth": 0,
        "opt_out": asdict(found.opt_out) if found.opt_out else None, "place": None,
    }
