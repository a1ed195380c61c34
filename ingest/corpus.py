"""The corpus on disk: parquet splits that `datasets.load_dataset(folder)` reads."""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from commonroot import report
from commonroot.artifact import text_sha256
from ingest.examine import Finding
from ingest.pii import redact

__all__ = ["report_fragment", "write_split"]

SAMPLES = 3
"""Dropped pages that the report shows for each reason."""

def write_split(folder: Path, name: str, findings: Sequence[Finding]) -> str:
    """Write one split; returns the file's name relative to `folder`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([
        ("text", pa.string()), ("url", pa.string()), ("fetched_at", pa.string()),
        ("sha256", pa.string()), ("licence", pa.string()), ("warc_offset", pa.int64()),
        ("language", pa.string()), ("decisions", pa.string()),
    ])
    rows = [_row(finding) for finding in findings]
    file = f"data/{name}-00000.parquet"
    (folder / "data").mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / file, compression="zstd")
    return file


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "text": finding.text, "url": finding.url, "fetched_at": finding.fetched_at,
        "sha256": text_sha256(finding.text), "licence": finding.licence,
        "warc_offset": finding.offset, "language": finding.language,
        "decisions": json.dumps(finding.decisions, sort_keys=True),
    }


def report_fragment(metrics: dict[str, Any], findings: Sequence[Finding]) -> str:
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
        report.details(f"Up to {SAMPLES} samples of each reason", _samples(findings)),
    ]
    if metrics["truth"]:
        parts += [
            report.prose("The demo site knows the truth about its pages; cleaning does not:"),
            report.table(("measured against the truth", "value"), _flat(metrics["truth"])),
        ]
    return report.section("The public corpus", *parts)


def _samples(findings: Sequence[Finding]) -> str:
    shown: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.reason and len(shown.setdefault(finding.reason, [])) < SAMPLES:
            shown[finding.reason].append(finding)
    pieces = []
    for reason, members in sorted(shown.items()):
        # Most rules drop a page before its personal data is replaced.
        lines = "\n".join(f"{f.url}  {redact(f.text)[0][:160]}".strip() for f in members)
        pieces.append(f"<h3>{html.escape(reason)}</h3><pre>{html.escape(lines)}</pre>")
    return "".join(pieces)


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name} ")
        else:
            rows.append((prefix + name.replace("_", " "), str(value)))
    return rows
