"""What was found out about each document so far, on disk: a record a line, read back by its place.

Texts stay here and not in memory. A run that is killed leaves at most one line cut short.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Journal"]


class Journal:
    """Append records and read them again. A kill costs what is under way, no record."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = open(path, "r+b")  # noqa: SIM115 (closed by close)
        self._end = 0

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(Place, record) of all that an interrupted run left. To be read before any is added."""
        self._file.seek(0)
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            place, self._end = self._end, self._end + len(line)
            yield place, json.loads(line)
        self._file.seek(self._end)
        self._file.truncate()

    def add(self, record: dict[str, Any]) -> int:
        """The place of the new record."""
        line = json.dumps(record).encode() + b"\n"
        self._file.seek(self._end)
        self._file.write(line)
        self._file.flush()
        place, self._end = self._end, self._end + len(line)
        return place

    def record(self, place: int) -> dict[str, Any]:
        """The record at a place."""
        self._file.seek(place)
        return dict(json.loads(self._file.readline()))
