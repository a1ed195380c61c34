"""A whole run folder on generated text: real base, shards and release; hand-made rounds.

Used by the tests of federate.release.stage, federate.release.publish and commonroot.verify.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from commonroot.artifact import (
    Artifact,
    Workspace,
    build_artifact,
    load_artifact,
    text_sha256,
    write_atomic,
)
from commonroot.config import Section
from commonroot.verify import source_lines
from federate.comparison.stage import CompareConfig
from federate.plan import FederateConfig
from federate.release.stage import ReleaseConfig
from federate.release.stage import run as run_release
from federate.shards.stage import ShardsConfig
from federate.shards.stage import run as run_shards
from tests.conftest import make_text, tiny_pretrain

MARKER = "zanzibar-marker-81"
NAMES = ["ward-seven", "north-clinic"]
LEFT_OUT = "tiny-office"


class WebSettings(Section):
    seeds: tuple[str, ...] = ("https://site.example/",)
    contact: str = ""


def build_run(
    run_dir: Path,
    *,
    contact: str = "",
    left_out: str = LEFT_OUT,
    comparison: bool = True,
    release: ReleaseConfig | None = None,
) -> Artifact:
    """Build every stage into `run_dir`; returns the release."""
    from pretrain import stage

    web = build_web(run_dir, contact)
    corpus = build_corpus(run_dir, web)
    if not (run_dir / "3-base").exists():
        stage.run(tiny_pretrain(), run_dir)
    shards = build_shards(run_dir)
    base = load_artifact(run_dir / "3-base", "base")
    federated = build_federated(run_dir, base, shards, left_out)
    if comparison:
        build_comparison(run_dir, [corpus, base, shards, federated])
    return run_release(release or ReleaseConfig(), run_dir)


def build_web(run_dir: Path, contact: str = "", archive: bytes = b"archive") -> Artifact:
    def make(work: Workspace) -> dict[str, Any]:
        write_atomic(work.path / "pages.warc.gz", archive)
        work.volatile("pages.warc.gz", text_sha256("pages"))
        write_atomic(work.path / "fetches.jsonl", '{"url": "https://site.example/"}\n')
        return {"addresses": 31, "kept": 30}

    return build_artifact(run_dir / "1-web", "web", [], WebSettings(contact=contact), make)


def build_corpus(run_dir: Path, web: Artifact, first: int = 0) -> Artifact:
    """Thirty documents; other ones with another `first`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def make(work: Workspace) -> dict[str, Any]:
        (work.path / "data").mkdir(exist_ok=True)
        rows = [_document(number) for number in range(first, first + 30)]
        for split, part in {"train": rows[3:], "heldout": rows[:3]}.items():
            pq.write_table(pa.Table.from_pylist(part), work.path / f"data/{split}-00000.parquet")
        return {
            "pages": 34,
            "kept": 30,
            "train": 27,
            "heldout": 3,
            "bytes": sum(len(row["text"]) for row in rows),
            "dropped": {"too-short": 3, "near-duplicate": 1},
            "languages": {"en": 29, "no": 1},
            "pii": {"email": 2},
            "sources_sha256": text_sha256(source_lines(work.path)),
        }

    return build_artifact(run_dir / "2-corpus", "corpus", [web], Section(), make)


def _document(number: int) -> dict[str, Any]:
    text = make_text(number, 200)
    return {
        "text": text,
        "url": f"https://site.example/page/{number:02d}",
        "fetched_at": "2026-11-22T00:00:00Z",
        "sha256": text_sha256(text),
        "licence": "https://site.example/licence" if number % 3 else None,
        "warc_offset": number,
        "language": "en",
        "decisions": "{}",
    }


def build_shards(run_dir: Path) -> Artifact:
    table = run_dir / "private" / "letters.jsonl"
    table.parent.mkdir(exist_ok=True)
    rows = [{"client": name, "text": f"{MARKER} {make_text(90, 300)}"} for name in NAMES]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return run_shards(ShardsConfig(table=str(table), names="key"), run_dir)


def build_federated(
    run_dir: Path, base: Artifact, shards: Artifact | None, left_out: str = LEFT_OUT, seed: int = 0
) -> Artifact:
    """The base's weights under the name of a federated model, with what two rounds leave."""

    def make(work: Workspace) -> dict[str, Any]:
        for pattern in ("*.safetensors", "*config.json", "tokenizer.json"):
            for file in base.path.glob(pattern):
                shutil.copy(file, work.path)
        tokenizer = work.path / "tokenizer_config.json"
        traced = {**json.loads(tokenizer.read_text("utf-8")), "name_or_path": str(base.path)}
        tokenizer.write_text(json.dumps(traced), encoding="utf-8")
        row = {"bpb": 2.5, "personal_bpb": 2.4, "personal_tokens": 100, "personal_chosen": 1}
        write_atomic(work.path / "clients.json", json.dumps(dict.fromkeys(NAMES, row)))
        skipped = {left_out: "no usable text"} if left_out else {}
        write_atomic(work.path / "left_out.json", json.dumps(skipped))
        record = {"cohort": NAMES, "excluded": {NAMES[0]: "late"}}
        write_atomic(work.path / "metrics.jsonl", f"{json.dumps(record)}\n" * 2)
        return {
            "clients": 2,
            "left_out": len(skipped),
            "rounds": 2,
            "void_rounds": 0,
            "excluded_replies": 2,
            "private_tokens": 5120,
            "personal_tokens": 200,
            "bytes_up": 123_456,
            "bytes_down": 234_567,
            "validation_bpb": [2.6],
        }

    config = FederateConfig(rounds=2, cohort=2, seed=seed)
    parents = [base, shards] if shards else [base]
    return build_artifact(run_dir / "5-federated", "federated", parents, config, make)


def build_comparison(run_dir: Path, parents: list[Artifact]) -> Artifact:
    arms = ["base", "local_only", "centralised", "federated", "personalised"]

    def make(work: Workspace) -> dict[str, Any]:
        write_atomic(work.path / "per_client.json", json.dumps({"base": dict.fromkeys(NAMES, 2.0)}))
        figures = {
            arm: {"own_bpb": 2.111 + i, "union_bpb": 2.222 + i, "public_bpb": 2.333 + i}
            for i, arm in enumerate(arms)
        }
        verdict = {"share_of_central_gain": 0.57, "personalised_beats_local": 1, "clients": 2}
        return {**figures, **verdict}

    return build_artifact(run_dir / "6-comparison", "comparison", parents, CompareConfig(), make)
