"""The corpus on disk: parquet splits that `datasets.load_dataset(folder)` reads."""

import hashlib
import html
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from commonroot import report
from commonroot.artifact import canonical_json
from ingest.examine import Finding
from ingest.pii import redact

__all__ = ["report_fragment", "write_split"]

SAMPLES = 3
"""Dropped pages that the report shows for each reason."""

ROW_GROUP = 1_000
"""Texts of a parquet file that are in memory at once."""


def write_split(folder: Path, name: str, rows: Iterable[tuple[Finding, str]]) -> tuple[str, str]:
    """Write one split of (finding, text); returns the file's name relative to `folder` and the
    sha256 of what does not differ between equal runs. Holds some rows at a time.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([
        ("text", pa.string()), ("url", pa.string()), ("fetched_at", pa.string()),
        ("sha256", pa.string()), ("licence", pa.string()), ("warc_offset", pa.int64()),
        ("language", pa.string()), ("decisions", pa.string()),
    ])
    file = f"data/{name}-00000.parquet"
    (folder / "data").mkdir(exist_ok=True)
    content = hashlib.sha256()
    source = (_row(finding, text, content) for finding, text in rows)
    with pq.ParquetWriter(folder / file, schema, compression="zstd") as writer:
        while group := list(islice(source, ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema))
    return file, content.hexdigest()


def _row(finding: Finding, text: str, content: "hashlib._Hash") -> dict[str, Any]:
    decisions = json.dumps(finding.decisions, sort_keys=True)
    content.update(canonical_json([finding.url, finding.sha256, decisions]).encode())
    return {
        "text": text, "url": finding.url, "fetched_at": finding.fetched_at,
        "sha256": finding.sha256, "licence": finding.licence,
        "warc_offset": finding.offset, "language": finding.language, "decisions": decisions,
    }


def report_fragment(
    metrics: dict[str, Any], findings: Sequence[Finding], text_of: Callable[[Finding], str]
) -> str:
    """The stage's part of the report."""
    dropped = sorted(metrics["dropped"].items(), key=lambda item: (-item[1], item[0]))
    parts = [
        report.prose(
            f"{metrics['kept']:,} of {metrics['pages']:,} responses were kept, "
            f"{metrics['bytes'] / 1e6:.2f} MB of text; {metrics['heldout']:,} texts are held out."
        ),
        report.table(("dropped because", "pages"), dropped),
        report.table(("personal data replaced", "times"), sorted(metrics["pii"].items())),
        report.table(
            ("licence that a page states", "texts"), sorted(metrics["licences"]["spdx"].items())
        ),
        report.table(("taken out of the texts that were kept", "count"), [
            (f"boilerplate {name} of their hosts", count)
            for name, count in metrics["boilerplate"].items()
        ]),
        report.details(f"Up to {SAMPLES} samples of each reason", _samples(findings, text_of)),
    ]
    if metrics["truth"]:
        parts += [
            report.prose("The demo site knows the truth about its pages; cleaning does not:"),
            report.table(("measured against the truth", "value"), _flat(metrics["truth"])),
        ]
    return report.section("The public corpus", *parts)


def _samples(findings: Sequence[Finding], text_of: Callable[[Finding], str]) -> str:
    shown: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.reason and len(shown.setdefault(finding.reason, [])) < SAMPLES:
            shown[finding.reason].append(finding)
    pieces = []
    for reason, members in sorted(shown.items()):
        # Most rules drop a page before its personal data is replaced.
        lines = "\n".join(f"{f.url}  {redact(text_of(f)[:500])[0][:160]}".strip() for f in members)
        pieces.append(f"<h3>{html.escape(reason)}</h3><pre>{html.escape(lines)}</pre>")
    return "".join(pieces)


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name} ".replace("_", " "))
        else:
            rows.append((prefix + name.replace("_", " "), str(value)))
    return rows
