"""Does cleaning pay? The same training on corpora that lack one step each, judged on one text.

Every arm cleans the same archive with one step left out, and trains equal models on equally many
tokens of what comes out; all are measured on the held-out texts of the full cleaning, as the
ablations of FineWeb are on one benchmark (https://arxiv.org/abs/2406.17557). One tokenizer, that
of the full cleaning, serves all arms. No arm trains on a held-out page or on a text that shares
passages with one, so that copies which an arm keeps do not help it.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pydantic import Field

from commonroot import report
from commonroot.artifact import Artifact, Workspace, build_artifact, load_artifact, write_atomic
from commonroot.config import Section
from commonroot.errors import DataError
from commonroot.progress import MetricsLog, bar, say
from ingest import clean, gather
from ingest.boilerplate import BoilerplateConfig
from ingest.clean import CleanConfig
from ingest.decontaminate import Evaluations
from pretrain.model import ModelShape
from pretrain.stage import PretrainConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pretrain.evaluate import EvalSet
    from pretrain.packing import Blocks

__all__ = ["ARMS", "FOLDER", "KIND", "AblateConfig", "run"]

FOLDER, KIND = "3-ablation", "ablation"
FULL = "nothing"
WORDS, RUNS = 13, 8
"""A text that shares this many different runs of so many words with the held-out texts is left out
of all arms."""

ARMS: dict[str, dict[str, Any]] = {
    FULL: {},
    "main-text extraction": {"skip": ("main-text",)},
    "language": {"languages": (), "min_language_score": 0.0},
    "boilerplate of hosts": {"boilerplate": BoilerplateConfig(pages=0)},
    "quality rules": {"skip": ("quality",)},
    "personal data": {"redact_pii": False},
    "near-duplicates": {"near_duplicates": 1.0},
    "all duplicates": {"near_duplicates": 1.0, "skip": ("equal-texts",)},
    "everything": {
        "skip": ("main-text", "quality", "equal-texts"), "languages": (),
        "min_language_score": 0.0, "redact_pii": False, "near_duplicates": 1.0,
        "boilerplate": BoilerplateConfig(pages=0),
    },
}
"""What is left out -> how the cleaning is changed."""


class AblateConfig(Section):
    """What `commonroot ablate` trains for each cleaning; the rest is that of [pretrain]."""

    seeds: int = Field(3, ge=1)
    """Models for each arm."""
    tokens: int = Field(400_000, ge=1)
    """Training tokens of each model."""
    context: int = Field(128, ge=16, le=8192)
    """Tokens a block."""
    eval_blocks: int = Field(400, ge=1)
    """Blocks of held-out text used for bpb."""
    model: ModelShape = ModelShape(
        hidden=64, layers=2, heads=2, kv_heads=1, intermediate=192, vocab=1024
    )
    """Size of each model."""


class _Resolved(AblateConfig):
    """With the tables of the stages that it goes through."""

    clean: CleanConfig
    pretrain: PretrainConfig


def run(
    section: AblateConfig, cleaning: CleanConfig, base: PretrainConfig, run_dir: Path
) -> Artifact:
    """Build `run_dir`/3-ablation out of 1-web and 2-corpus. A killed run goes on where it was."""
    web = load_artifact(run_dir / gather.FOLDER, gather.KIND)
    corpus = load_artifact(run_dir / clean.FOLDER, clean.KIND)
    kept = {name: getattr(section, name) for name in AblateConfig.model_fields}
    shared = ("context", "eval_blocks", "tokens", "model")
    own = {"budget": "", "mixture": {}, **{name: kept[name] for name in shared}}
    pretrain = base.model_copy(update=own)
    resolved = _Resolved(**kept, clean=clean.resolved(cleaning), pretrain=pretrain)
    return build_artifact(
        run_dir / FOLDER, KIND, [web, corpus], resolved,
        lambda work: _ablate(resolved, cleaning, web, corpus, work),
    )


@dataclass(frozen=True)
class _Arm:
    name: str
    data: "Blocks"
    texts: int
    bytes: int
    shared: int
    """Texts left out because they share passages with the held-out ones."""


def _ablate(
    config: _Resolved, cleaning: CleanConfig, web: Artifact, corpus: Artifact, work: Workspace
) -> dict[str, Any]:
    from pretrain.corpus import corpus_texts
    from pretrain.evaluate import eval_set
    from pretrain.model import pick_device

    started = time.time()
    pick_device(config.pretrain.compute)
    heldout = corpus_texts(corpus, "heldout")
    tokenizer, arms = _arms(config, cleaning, web, corpus, work)
    examined = eval_set(tokenizer, heldout, config.context, config.eval_blocks)
    journal = MetricsLog(work.scratch("trained.jsonl"))
    done = {(one["arm"], one["seed"]): one["bpb"] for one in journal.read()}
    steps = max(1, config.tokens // (config.pretrain.batch * config.context))
    with bar(len(arms) * config.seeds * steps, "ablate", "steps", len(done) * steps) as shown:
        for seed in range(config.seeds):
            for arm in arms:
                if (arm.name, seed) not in done:
                    bpb = _trained(config.pretrain, tokenizer, arm, examined, seed, shown.advance)
                    done[arm.name, seed] = bpb
                    journal.write(arm=arm.name, seed=seed, bpb=bpb)
                    shown.show(arm=arm.name, bpb=bpb)
    metrics = {
        "tokens": config.tokens, "seeds": config.seeds, "heldout_bytes": examined.bytes,
        "arms": {arm.name: _measured(arm, done, config.seeds) for arm in arms},
    }
    write_atomic(work.path / report.FRAGMENT, _fragment(metrics))
    work.note("ablate_seconds", round(time.time() - started, 1))
    return metrics


def _arms(
    config: _Resolved, cleaning: CleanConfig, web: Artifact, corpus: Artifact, work: Workspace
) -> tuple["PreTrainedTokenizerBase", list[_Arm]]:
    from pretrain.corpus import corpus_rows
    from pretrain.packing import pack
    from pretrain.tokenizer import train_tokenizer

    heldout = list(corpus_rows(corpus, "heldout", ["text", "url"]))
    judge = Evaluations.of(((row["url"], row["text"]) for row in heldout), WORDS)
    addresses = {row["url"] for row in heldout}
    folder = work.scratch("arms")
    tokenizer, arms = None, []
    for name, changes in ARMS.items():
        say(f"ablate: cleaning without {name}")
        made = _cleaned(cleaning.model_copy(update=changes), web, folder / name.replace(" ", "-"))
        rows = [
            row for split in ("train", "heldout")
            for row in corpus_rows(made, split, ["text", "url"]) if row["url"] not in addresses
        ]
        texts = [row["text"] for row in rows if judge.shared(row["text"])[0] < RUNS]
        if not texts:
            raise DataError(f"without {name} no text is left to train on: gather more pages")
        tokenizer = tokenizer or train_tokenizer(texts, config.model.vocab, config.context)
        data = pack(tokenizer, texts, config.context)
        size = sum(len(text.encode()) for text in texts)
        arms.append(_Arm(name, data, len(texts), size, len(rows) - len(texts)))
    assert tokenizer is not None
    return tokenizer, arms


def _cleaned(config: CleanConfig, web: Artifact, folder: Path) -> Artifact:
    """A corpus of its own, made of the run's archive."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / gather.FOLDER
    if not link.is_symlink():
        link.symlink_to(web.path.resolve(), target_is_directory=True)
    return clean.run(config, folder)


def _trained(
    section: PretrainConfig, tokenizer: "PreTrainedTokenizerBase", arm: _Arm, heldout: "EvalSet",
    seed: int, advance: Any,
) -> float:
    from pretrain.evaluate import bits_per_byte
    from pretrain.model import build_model, pick_device
    from pretrain.packing import end_of_text
    from pretrain.train import pick_optimizer, schedule, train

    steps = max(1, section.tokens // (section.batch * section.context))
    model = build_model(section.model, section.context, end_of_text(tokenizer), seed)
    model = model.to(pick_device(section.compute))  # type: ignore[arg-type]
    lr = schedule(section.lr, steps, section.warmup, section.decay)
    batches = (arm.data.batch(seed, step, section.batch) for step in range(steps))
    for _ in train(model, pick_optimizer(model, section), batches, lr, section.compute):
        advance()
    return bits_per_byte(model, heldout, section.compute)


def _measured(arm: _Arm, bpb: dict[tuple[str, int], float], seeds: int) -> dict[str, Any]:
    own = [bpb[arm.name, seed] for seed in range(seeds)]
    above = [value - bpb[FULL, seed] for seed, value in enumerate(own)]
    return {
        "texts": arm.texts, "bytes": arm.bytes, "tokens": len(arm.data.stream_N),
        "shared": arm.shared, "bpb": fmean(own), "above": fmean(above),
        "above_least": min(above), "above_most": max(above),
    }


def _fragment(metrics: dict[str, Any]) -> str:
    arms: dict[str, dict[str, Any]] = metrics["arms"]
    told = (
        f"Each row: the pages cleaned with one step left out, {metrics['seeds']} equal models "
        f"trained on {metrics['tokens']:,} tokens of what came out, measured on the same held-out "
        f"text ({metrics['heldout_bytes']:,} bytes, as the full cleaning leaves it). Above zero: "
        "the step pays. The range is that of the seeds, each beside the full cleaning of its seed."
    )
    return report.section(
        "Does cleaning pay?", report.prose(told),
        report.table(
            ("left out", "texts", "MB", "bpb", "above the full cleaning", "range"), _rows(arms)
        ),
        report.figure(_plot(arms), "Held-out bits per byte above those of the full cleaning"),
    )


def _rows(arms: dict[str, dict[str, Any]]) -> Iterator[Sequence[Any]]:
    for name, arm in arms.items():
        span = f"{arm['above_least']:+.3f} to {arm['above_most']:+.3f}"
        yield name, arm["texts"], arm["bytes"] / 1e6, arm["bpb"], f"{arm['above']:+.3f}", span


def _plot(arms: dict[str, dict[str, Any]]) -> Any:
    names = [name for name in arms if name != FULL]
    means = [arms[name]["above"] for name in names]
    spans = [
        [mean - arms[name]["above_least"] for name, mean in zip(names, means, strict=True)],
        [arms[name]["above_most"] - mean for name, mean in zip(names, means, strict=True)],
    ]
    fig = report.new_figure()
    axes = fig.subplots()
    axes.barh(names, means, xerr=spans, capsize=3)
    axes.invert_yaxis()
    axes.set(xlabel="bits per byte above the full cleaning", ylabel="left out")
    return fig
