"""Stage 7: federated checkpoint -> the folder to publish, with card and lineage (-> 7-release).

Nothing private goes in, by construction: weights and tokenizer, figures that are sums or means
over clients, and records of the other stages. Of the private shards it knows the digest alone. No
text that the federated model wrote is shown, for it may have learned some by heart.
"""

import json
import re
import shutil
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pydantic import Field

from commonroot import report
from commonroot.artifact import (
    Artifact,
    Workspace,
    build_artifact,
    load_artifact,
    text_sha256,
    write_atomic,
)
from commonroot.config import Section
from commonroot.errors import ArtifactError, UsageError
from commonroot.progress import say
from commonroot.verify import CARD, LINEAGE, SOURCES, WITHHELD, source_lines, sources_of
from pretrain.mixture import reopen_mixture

__all__ = ["ReleaseConfig", "run"]

MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template.jinja",
)
LOADER_TRACES = ("_name_or_path", "name_or_path", "is_local", "local_files_only")
"""How and from where this machine loaded a model: transformers writes it into what it saves."""
OWN_BUSINESS = ("contact", "connect", "base")
"""Config keys that say who or where the operator is, or where a file lay."""


class ReleaseConfig(Section):
    """[release]"""

    name: str = Field("commonroot", pattern=r"^[^\n|<>]{1,96}$")
    """Title of the model card."""
    licence: str = Field("apache-2.0", pattern=r"^[A-Za-z0-9.+-]+$")
    """SPDX identifier of the licence of the weights."""
    language: tuple[str, ...] = ()
    """ISO 639 codes; empty: the languages of the public corpus."""
    description: str = ""
    """What the model is for: one paragraph at the top of the card."""
    prompt: str = "The country is"
    """Prompt of the card's loading example."""
    base_model: str = ""
    """Hub name (owner/name) of the checkpoint that `pretrain.base` adopted."""
    client_names: bool = False
    """Name the clients in the card and in the lineage."""


def run(section: ReleaseConfig, run_dir: Path) -> Artifact:
    """Build `run_dir`/7-release. Raises ArtifactError if the stages do not fit together."""
    folders = ["1-web", "2-corpus", "3-base", "5-federated"]
    if (run_dir / "6-comparison").is_dir():
        folders.append("6-comparison")
    stages = {name[2:]: load_artifact(run_dir / name, name[2:]) for name in folders}
    _check_links(stages)
    mixed = _mixed_in(stages)
    parents = [stage for kind, stage in stages.items() if kind != "web"]
    return build_artifact(
        run_dir / "7-release",
        "release",
        parents,
        section,
        lambda work: _make(section, stages, mixed, work, run_dir),
    )


def _check_links(stages: dict[str, Artifact]) -> None:
    """Each stage must have been made from the others as they are now; a stale comparison goes."""
    digests = {kind: stage.digest for kind, stage in stages.items()}
    digests["shards"] = stages["federated"].manifest["parents"].get("shards", "")
    for kind, stage in list(stages.items()):
        parents = stage.manifest["parents"]
        stale = [name for name, digest in parents.items() if digests.get(name) != digest]
        if stale and kind == "comparison":
            say(f"the comparison is left out of the release: its {stale[0]} is another one now")
            del stages[kind]
        elif stale:
            raise ArtifactError(
                f"{stage.path} was made from another {stale[0]}: run its stage again"
            )


def _mixed_in(stages: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Corpora of other runs that the base was trained on, each once."""
    own = stages["corpus"]
    found: dict[str, Artifact] = {}
    for portion in reopen_mixture(stages["base"], own):
        if portion.corpus.digest not in {own.digest, *(one.digest for one in found.values())}:
            found[portion.name] = portion.corpus
    return found


def _make(
    section: ReleaseConfig,
    stages: dict[str, Artifact],
    mixed: dict[str, Artifact],
    work: Workspace,
    run_dir: Path,
) -> dict[str, Any]:
    from federate.release.card import card, licences_of

    federated = stages["federated"]
    copied = _copy_model(federated.path, work.path)
    parameters, tensors = _check_loads(work.path)
    sources = source_lines(stages["corpus"].path)
    listed = _list(work, SOURCES, sources)
    lineage: dict[str, Any] = {
        "format": 1,
        "ancestors": _ancestors(stages, [] if section.client_names else _client_names(federated)),
        "copied": dict.fromkeys(copied, "federated"),
        "sources": listed,
        "mixture": {},
    }
    for name, corpus in mixed.items():
        lines = source_lines(corpus.path)
        lineage["mixture"][name] = {
            "record": _record(corpus, []), "sources": _list(work, sources_of(name), lines),
        }
        sources += lines
    write_atomic(work.path / LINEAGE, json.dumps(lineage, indent=1, sort_keys=True))
    write_atomic(work.path / CARD, card(section, stages, lineage, tensors, licences_of(sources)))
    _refuse_paths(work.path, run_dir)
    sizes = {
        path.name: path.stat().st_size
        for path in sorted(work.path.iterdir())
        if not path.name.startswith(".") and path.name != report.FRAGMENT
    }
    write_atomic(work.path / report.FRAGMENT, _fragment(lineage["ancestors"], sizes))
    documents = sources.count("\n")
    return {"parameters": parameters, "documents": documents, "bytes": sum(sizes.values())}


def _list(work: Workspace, name: str, lines: str) -> dict[str, Any]:
    """Write the list of a corpus' documents; returns what the lineage says of it."""
    write_atomic(work.path / name, lines)
    return {"file": name, "sha256": text_sha256(lines), "documents": lines.count("\n")}


def _copy_model(source: Path, target: Path) -> list[str]:
    """Copy weights, configs and tokenizer; returns the files that are byte for byte the same."""
    same = []
    for file in sorted(source.iterdir()):
        if not any(fnmatch(file.name, pattern) for pattern in MODEL_FILES):
            continue
        values = json.loads(file.read_text("utf-8")) if "config" in file.name else {}
        kept = {key: value for key, value in values.items() if key not in LOADER_TRACES}
        if kept == values:
            shutil.copyfile(file, target / file.name)
            same.append(file.name)
        else:
            write_atomic(target / file.name, json.dumps(kept, indent=2, sort_keys=True) + "\n")
    return same


def _check_loads(folder: Path) -> tuple[int, list[str]]:
    """Load it the way a user will; returns the parameters and the tensors' names."""
    from pretrain.model import count, load_model, load_tokenizer

    load_tokenizer(folder)
    model = load_model(folder)
    return count(model), [name for name, _ in model.named_parameters()]


def _client_names(federated: Artifact) -> list[str]:
    clients = json.loads((federated.path / "clients.json").read_text("utf-8"))
    return [*clients, *json.loads((federated.path / "left_out.json").read_text("utf-8"))]


def _ancestors(stages: dict[str, Artifact], names: list[str]) -> list[dict[str, Any]]:
    records = [_record(stage, names) for stage in stages.values()]
    shards = stages["federated"].manifest["parents"].get("shards")
    if shards:
        records.insert(3, {"kind": "shards", "digest": shards, WITHHELD: ["all but the digest"]})
    return records


def _record(stage: Artifact, names: list[str]) -> dict[str, Any]:
    """The stage's manifest without what is not for everybody; what was cut is listed.

    A file stands there with what the stage's digest holds of it, which is equal in equal runs.
    """
    files = stage.manifest["files"].items()
    record = {**stage.manifest, "files": {n: e.get("content", e["sha256"]) for n, e in files}}
    after_shards = stage.kind in ("federated", "comparison")
    record["config"] = _without_operator(record["config"])
    for part in ("config", "inputs", "metrics"):
        record[part] = _public(record[part], names if after_shards else [])
    cut = [part for part in ("config", "inputs", "metrics") if record[part] != stage.manifest[part]]
    return {**record, WITHHELD: cut}


def _without_operator(config: Any) -> Any:
    if not isinstance(config, Mapping):
        return config
    return {
        key: "" if key in OWN_BUSINESS and value else _without_operator(value)
        for key, value in config.items()
    }


def _public(value: Any, names: list[str]) -> Any:
    """`value` without the entries that name a client or a place on this machine."""
    if isinstance(value, Mapping):
        return {k: _public(v, names) for k, v in value.items() if not _tells(k, names)}
    if isinstance(value, list | tuple):
        return [_public(part, names) for part in value if not _tells(part, names)]
    return "" if _tells(value, names) else value


def _tells(value: Any, names: list[str]) -> bool:
    """A client's name, or what looks like a path on this machine."""
    if not isinstance(value, str):
        return False
    path = re.match(r"(~|\.{0,2}/|[A-Za-z]:\\|\\\\)", value) is not None
    return path or any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", value) for name in names)


def _refuse_paths(folder: Path, run_dir: Path) -> None:
    """The last gate: no file that people read may say where this machine keeps things."""
    places = {str(run_dir.resolve()), str(Path.cwd()), str(Path.home())} - {"/"}
    for file in (folder / CARD, folder / LINEAGE, *folder.glob("*config.json")):
        text = file.read_text("utf-8")
        for place in places:
            if re.search(rf"(?<![\w.:/-]){re.escape(place)}(?![\w-])", text):
                raise UsageError(
                    f"{file.name} would publish the local path {place}: look for it "
                    "under [release] and in the base model's config"
                )


def _fragment(ancestors: list[dict[str, Any]], sizes: dict[str, int]) -> str:
    rows = [
        [
            entry["kind"],
            entry["digest"][:16],
            ", ".join(sorted(entry.get("parents", {}))),
            ", ".join(entry[WITHHELD]),
        ]
        for entry in ancestors
    ]
    return report.section(
        "The release",
        report.prose(
            f"{len(sizes)} files, {sum(sizes.values()) / 1e6:,.1f} MB, to load with stock "
            "transformers. `commonroot verify` rechecks the folder and its chain back to the list "
            "of public documents, wherever the folder lies. Of the private shards it holds the "
            "digest alone."
        ),
        report.table(["made from", "digest", "which was made from", "not published"], rows),
        report.table(["published file", "bytes"], sizes.items()),
    )
