"""README.md of a corpus: a data card that the Hugging Face hub and `datasets` understand.

https://huggingface.co/docs/hub/datasets-cards. It depends on the metrics alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ingest.examine import Finding
from ingest.pii import figures

__all__ = ["NOT_LOOKED_FOR", "card", "licence_counts", "markdown", "pii_table"]

NONE_STATED = "none stated"
HEADER = """---
license:
{licences}
language:
{languages}
size_categories:
- {size}
task_categories:
- text-generation
task_ids:
- language-modeling
pretty_name: Public web corpus
tags:
- web
- commonroot
configs:
- config_name: default
  default: true
  data_files:
  - split: train
    path: data/train-*.parquet
  - split: heldout
    path: data/heldout-*.parquet
---
"""
COLUMNS = """| column | |
|---|---|
| `text` | main text{replaced} |
| `url` | canonical address |
| `fetched_at` | UTC |
| `sha256` | of `text` |
| `licence` | stated by the page: an SPDX expression, or its own words; null if it states none |
| `warc_offset` | of the response record in `pages.warc.gz` |
| `language` | ISO 639 |
| `decisions` | JSON: language, where the licence stands, personal data found, place seen from |
"""
REPLACED = "; personal data of a known form replaced by typed tokens"
NOT_LOOKED_FOR = "Personal data was not looked for and not replaced (`redact_pii = false`)."
USE = """```python
from datasets import load_dataset

data = load_dataset("PATH OF THIS FOLDER")
```

"""
SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
    (10_000_000_000, "1B<n<10B"), (100_000_000_000, "10B<n<100B"),
)
HUB_LICENCES = {
    "0bsd", "agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc", "cc-by-2.0",
    "cc-by-2.5",
    "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "etalab-2.0", "gfdl", "gpl-2.0", "gpl-3.0",
    "isc", "lgpl-2.1", "lgpl-3.0", "mit", "mpl-2.0", "odbl", "odc-by", "pddl", "unlicense",
}
"""What the hub has a name for; the rest is `other` there."""


def licence_counts(findings: Sequence[Finding]) -> dict[str, dict[str, int]]:
    """Texts by licence (`spdx`), and by where it is stated (`where`)."""
    where = Counter(
        finding.decisions["licence"]["where"] for finding in findings
        if "licence" in finding.decisions
    )
    names = Counter(finding.licence or NONE_STATED for finding in findings)
    return {"spdx": dict(sorted(names.items())), "where": dict(sorted(where.items()))}


def card(metrics: Mapping[str, Any], redacted: bool) -> str:
    """The card of a corpus with these metrics; was personal data looked for and replaced?"""
    kept = metrics["kept"]
    size = next((name for bound, name in SIZES if kept < bound), "n>1T")
    licences = metrics["licences"]
    return (
        HEADER.format(
            licences=_list(_hub_licence(name) for name in licences["spdx"]),
            languages=_list(name for name in metrics["languages"] if name != "und"), size=size,
        )
        + "# Public web corpus\n\n"
        + f"{kept:,} texts, {metrics['bytes'] / 1e6:.2f} MB: {metrics['train']:,} to train on and "
        + f"{metrics['heldout']:,} held out (chosen by hash after removing near-duplicates). "
        + f"Made by commonroot from {metrics['pages']:,} archived responses. Robots rules and "
        + "opt-outs from training were obeyed; each text remains under its page's own terms. "
        + "[DATASHEET.md](DATASHEET.md) answers what else is known of it.\n\n"
        + USE
        + COLUMNS.format(replaced=REPLACED if redacted else "")
        + _seen_from(metrics["places"])
        + "\n## What was dropped\n\n" + markdown(("reason", "pages"), metrics["dropped"])
        + "\n## Licences\n\n" + markdown(("licence", "texts"), licences["spdx"])
        + "\n" + markdown(("where it is stated", "texts"), licences["where"])
        + "\nA page's own statement, not checked: it may speak of a part of the page. A text "
        + "without one is not free of rights.\n"
        + _personal(metrics, redacted)
    )


def _personal(metrics: Mapping[str, Any], redacted: bool) -> str:
    if not redacted:
        return f"\n## Personal data\n\n{NOT_LOOKED_FOR}\n"
    counts = markdown(("kind", "times"), metrics["pii"])
    return f"\n## Personal data replaced\n\n{counts}\n{pii_table()}"


def pii_table() -> str:
    """How much of each kind is found, as measured."""
    measured = figures()
    rows = "".join(
        f"| {kind} | {_share(one['recall'])} | {_share(one['precision'])} |\n"
        for kind, one in measured["kinds"].items()
    )
    return (
        "Only what has a form is found; names and postal addresses are not. On a generated "
        f"labelled set of {measured['texts']:,} texts, half of them look-alikes "
        f"(`{measured['command']}`; 95 % intervals):\n\n"
        "| kind | recall | precision |\n|---|---|---|\n" + rows
    )


def markdown(head: tuple[str, str], counts: Mapping[str, int]) -> str:
    """A table of counts."""
    lines = "".join(f"| {name.replace('|', '%7C')} | {n:,} |\n" for name, n in counts.items())
    return f"| {head[0]} | {head[1]} |\n|---|---|\n{lines}" if counts else "None.\n"


def _seen_from(places: Mapping[str, int]) -> str:
    if not any(places):
        return ""
    named = {place or "no place was asked for": count for place, count in places.items()}
    return "\n## From where pages were seen\n\n" + markdown(("place", "texts"), named)


def _share(measured: Sequence[float]) -> str:
    value, low, high = measured
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _hub_licence(name: str) -> str:
    lower = name.lower().removesuffix("-only").removesuffix("-or-later")
    lower = {"odbl-1.0": "odbl", "odc-by-1.0": "odc-by", "pddl-1.0": "pddl"}.get(lower, lower)
    lower = "gfdl" if lower.startswith("gfdl-") else lower
    if name == NONE_STATED:
        return "unknown"
    return lower if lower in HUB_LICENCES else "other"


def _list(names: Any) -> str:
    return "\n".join(f"- {name}" for name in dict.fromkeys(names)) or "- unknown"
