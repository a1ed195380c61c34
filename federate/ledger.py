"""The egress ledger: an append-only, hash-chained record of everything that left a silo."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from commonroot.artifact import canonical_json, text_sha256
from commonroot.errors import ArtifactError

__all__ = ["Ledger"]

START = "0" * 64


class Ledger:
    """One JSON object a line; `previous` is the sha256 of the line before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._drop_cut_line()
        entries = self.entries()
        self._number = len(entries)
        self._last = text_sha256(entries[-1]) if entries else START
        self.egress = sum(int(entry["bytes"]) for entry in entries)

    def append(self, what: dict[str, Any], buffers: dict[str, bytes], header: str) -> None:
        """Record what is about to leave: call before sending; an OSError means do not send."""
        left = hashlib.sha256(header.encode())
        for name in sorted(buffers):
            left.update(name.encode() + b"\0" + buffers[name])
        entry = {
            **what,
            "number": self._number,
            "bytes": len(header) + sum(map(len, buffers.values())),
            "sha256": left.hexdigest(),
            "previous": self._last,
        }
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(canonical_json(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._number += 1
        self._last = text_sha256(entry)
        self.egress += entry["bytes"]

    def entries(self) -> list[dict[str, Any]]:
        """All entries. Raises ArtifactError naming the first line that breaks the chain."""
        text = self.path.read_text("utf-8") if self.path.exists() else ""
        entries: list[dict[str, Any]] = []
        last = START
        for number, line in enumerate(text.split("\n")[:-1]):
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {}
            if entry.get("previous") != last or entry.get("number") != number:
                raise ArtifactError(f"{self.path}: line {number + 1} breaks the hash chain")
            last = text_sha256(entry)
            entries.append(entry)
        return entries

    def _drop_cut_line(self) -> None:
        """A kill in the middle of a write leaves half a line; what it described never left."""
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with open(self.path, "r+b") as file:
                file.truncate(whole)
