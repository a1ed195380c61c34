"""Stage 4: private folders or a table -> one folder a client (3-base is not touched; -> 4-shards).

For simulation: in deployment every client names its own folder and this stage does not run.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from commonroot import report
from commonroot.artifact import (
    Artifact,
    Workspace,
    build_artifact,
    tree_sha256,
    write_atomic,
)
from commonroot.config import Section
from commonroot.errors import ConfigError, DataError
from commonroot.progress import say
from federate.private_text import read_folder
from federate.shards.partition import LABELLED, PartitionConfig, by_column, cut_rows, draw
from federate.shards.report import fragment
from federate.shards.skew import measure
from federate.shards.tables import Row, document_text, row_text, usable_rows, write_rows
from pretrain.records import Document

__all__ = ["Client", "ShardsConfig", "clients_of", "run"]


class ShardsConfig(Section):
    """[shards]"""

    folders: tuple[str, ...] = ()
    """One folder a client, read in place and never copied."""
    parent: str = ""
    """A folder that holds a subfolder for each client, read in place and never copied."""
    table: str = ""
    """A .jsonl, .parquet or .csv file with a row for each record (`text`, or `prompt` and
    `completion`, or `messages`), split into clients as [shards.partition] says."""
    key: str = "client"
    """Column of `table` that says whose row it is. The demo has client (president) and party."""
    demo: bool = False
    """Use the embedded default: speeches, one client for each president."""
    most_clients: int = Field(0, ge=0)
    """Keep only the clients with the most text; 0: all."""
    names: str = Field("pseudonym", pattern="^(pseudonym|key)$")
    """Call clients client-00, client-01, … or by their folder name or key (then reports and the
    release show those names)."""
    partition: PartitionConfig = PartitionConfig()


@dataclass(frozen=True)
class Client:
    """One private shard."""

    name: str
    folder: Path


@dataclass(frozen=True)
class _Shards:
    """What each client holds, by key: a folder in place, or rows to write."""

    folders: Mapping[str, Path]
    rows: Mapping[str, Sequence[Row]]
    left_out: int = 0
    unused_rows: int = 0


def run(section: ShardsConfig, run_dir: Path) -> Artifact:
    """Give every client a folder; seals `run_dir`/4-shards."""
    sources = [_resolved(name) for name in section.folders]
    sources += [_resolved(name) for name in (section.parent, section.table) if name]
    for path in sources:
        if not path.exists():
            raise DataError(f"[shards] no such folder or table: {path}")
    given = bool(section.folders) + bool(section.parent) + bool(section.table) + section.demo
    if given != 1:
        raise ConfigError("[shards] needs exactly one of folders, parent, table or demo")
    if (section.folders or section.parent) and section.partition.how != "natural":
        raise ConfigError(
            "[shards.partition] deals out the rows of a table or of the demo; "
            'folders are clients already: leave how = "natural"'
        )
    inputs = {str(path): tree_sha256(path) for path in sources}
    return build_artifact(
        run_dir / "4-shards", "shards", [], section, lambda work: _make(section, work), inputs
    )


def clients_of(shards: Artifact) -> list[Client]:
    """The clients of a sealed 4-shards, in order of their names."""
    listed = json.loads((shards.path / "shards.json").read_text("utf-8"))
    return [Client(entry["client"], shards.path / entry["folder"]) for entry in listed]


def _make(section: ShardsConfig, work: Workspace) -> dict[str, Any]:
    shards = _in_place(section) if section.folders or section.parent else _from_rows(section)
    texts = {key: [row_text(row) for row in rows] for key, rows in shards.rows.items()}
    sizes = {key: sum(len(text.encode()) for text in held) for key, held in texts.items()}
    sizes |= {key: _bytes_below(folder) for key, folder in shards.folders.items()}
    kept = _largest(sizes, section.most_clients)
    names = _names(kept, section.names)
    kept.sort(key=lambda key: names[key])
    entries = []
    for key in kept:
        folder = str(shards.folders.get(key, f"clients/{names[key]}"))
        if key in shards.rows:
            write_rows(work.path / folder, shards.rows[key], ("text",) if section.demo else ())
        entries.append({"client": names[key], "folder": folder, "bytes": sizes[key]})
    write_atomic(work.path / "shards.json", json.dumps(entries, indent=1))
    held = {names[key]: texts[key] if key in texts else _read(shards.folders[key]) for key in kept}
    labels: dict[str, list[str]] = {}
    if section.partition.label and shards.rows:
        labels = {names[key]: _labels(section, shards.rows[key]) for key in kept}
    return {
        "clients": len(entries),
        "bytes": {entry["client"]: entry["bytes"] for entry in entries},
        "left_out": shards.left_out,
        "unused_rows": shards.unused_rows,
        "skew": _skew(section, work, held, labels, shards.left_out),
    }


def _skew(
    section: ShardsConfig,
    work: Workspace,
    texts: Mapping[str, Sequence[str]],
    labels: Mapping[str, Sequence[str]],
    left_out: int,
) -> dict[str, Any]:
    figures, clients = measure(texts, labels)
    write_atomic(work.path / "skew.json", json.dumps(clients, indent=1))
    page = fragment(figures, clients, section.partition.how, left_out)
    write_atomic(work.path / report.FRAGMENT, page)
    return figures


def _in_place(section: ShardsConfig) -> _Shards:
    paths = [_resolved(name) for name in section.folders]
    if section.parent:
        parent = _resolved(section.parent)
        paths = sorted(p for p in parent.glob("*") if p.is_dir() and not p.name.startswith("."))
        if not paths:
            raise DataError(f"{parent} holds no folders: give every client one in it")
    folders = {path.name: path for path in paths}
    if len(folders) < len(paths):
        raise ConfigError("[shards] two folders have one name: give every client its own")
    return _Shards(folders, {})


def _from_rows(section: ShardsConfig) -> _Shards:
    """Rows by client: as they are (natural), or drawn out of all rows (the other ways)."""
    plan = section.partition
    source = None if section.demo else _resolved(section.table)
    rows = usable_rows(source, _columns(section))
    if plan.how != "natural" and plan.clients:
        groups = {"": rows}
    else:
        groups = {
            key: [rows[number] for number in numbers]
            for key, numbers in by_column([row[section.key] for row in rows]).items()
        }
    if plan.how != "natural":
        groups, unused = _drawn(section, groups)
    else:
        unused = 0
    kept = {key: held for key, held in groups.items() if len(held) >= max(plan.min_rows, 1)}
    if not kept:
        raise ConfigError(f"[shards.partition] no client has {plan.min_rows} rows: set it lower")
    if len(kept) < len(groups):
        say(f"shards: {len(groups) - len(kept):,} clients have too few rows and are left out")
    return _Shards({}, kept, len(groups) - len(kept), unused)


def _drawn(
    section: ShardsConfig, natural: Mapping[str, Sequence[Row]]
) -> tuple[dict[str, list[Row]], int]:
    """Clients drawn out of the rows of these natural ones, and how many rows nobody got."""
    plan = section.partition
    sizes = {key: sum(len(row_text(row).encode()) for row in rows) for key, rows in natural.items()}
    pool = sorted(_largest(sizes, section.most_clients))
    clients = plan.clients or len(pool)
    rows, held = cut_rows([natural[key] for key in pool], plan, clients)
    labels = _labels(section, rows) if plan.how in LABELLED else [""] * len(rows)
    drawn = draw(plan, clients, labels, () if plan.clients else held)
    width = len(str(clients - 1))
    groups = {
        f"part-{number:0{width}d}": [rows[place] for place in places]
        for number, places in enumerate(drawn)
    }
    unused = len(rows) - sum(map(len, drawn))
    if unused:
        say(f"shards: {unused:,} of {len(rows):,} rows are nobody's in this partition")
    return groups, unused


def _labels(section: ShardsConfig, rows: Sequence[Row]) -> list[str]:
    column = section.partition.label or section.key
    return [str(row[column]) for row in rows]


def _largest(sizes: Mapping[str, int], most: int) -> list[str]:
    return sorted(sizes, key=lambda key: (-sizes[key], key))[: most or None]


def _names(keys: list[str], how: str) -> dict[str, str]:
    """Key -> client name; pseudonyms follow a hash order, so that size does not give them away."""
    if how == "key":
        names = {key: "-".join(key.lower().replace("/", " ").split()) for key in keys}
        if len({"", ".", "..", *names.values()}) < 3 + len(names):
            raise DataError("[shards] two clients would have one name, or one none: rename them")
        return names
    shuffled = sorted(keys, key=lambda key: hashlib.sha256(key.encode()).digest())
    return {key: f"client-{number:02d}" for number, key in enumerate(shuffled)}


def _columns(section: ShardsConfig) -> list[str]:
    """The columns without which a row is nobody's."""
    plan = section.partition
    natural = [section.key] if plan.how == "natural" or not plan.clients else []
    label = plan.label or (section.key if plan.how in LABELLED else "")
    return list(dict.fromkeys([*natural, *([label] if label else [])]))


def _resolved(name: str) -> Path:
    return Path(name).expanduser().resolve()


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _read(folder: Path) -> list[str]:
    """What a client of its own folder would read there; [] if that is nothing."""
    try:
        documents: Sequence[Document] = read_folder(folder)[0]
    except DataError:
        return []
    return [document_text(document) for document in documents]
