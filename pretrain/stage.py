"""Stage 3: corpus -> base model (2-corpus -> 3-base)."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from commonroot import report
from commonroot.artifact import (
    Artifact,
    Workspace,
    build_artifact,
    load_artifact,
    write_atomic,
)
from commonroot.config import Section
from commonroot.errors import ConfigError
from commonroot.progress import MetricsLog, bar
from commonroot.tracker import KINDS, tracking
from pretrain.adopt import Adopted, adopt, continued, load, settings_of
from pretrain.budget import parse_budget
from pretrain.checkpoint import Progress
from pretrain.distributed import Distributed, World, join
from pretrain.evaluate import EvaluateConfig
from pretrain.loop import Data, fit, steps_of
from pretrain.mixture import Mixture, inputs_of, link, open_mixture
from pretrain.model import Compute, ModelShape
from pretrain.safety import Safety
from pretrain.settle import given, settle

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pretrain.evaluate import EvalSet
    from pretrain.portion import Portion


__all__ = ["PretrainConfig", "run"]


def _readable(budget: str) -> str:
    if budget:
        parse_budget(budget)
    return budget


class PretrainConfig(Section):
    """[pretrain]"""

    base: str = ""
    """Adopt this transformers checkpoint instead of training from random weights: a folder, or a
    name on the hub. Any causal language model in safetensors; its provenance is marked."""
    revision: str = ""
    """Commit, tag or branch of a base from the hub; empty: its main branch. The commit is kept."""
    continue_training: bool = False
    """Train an adopted base on the corpus, for `tokens`, with its own tokenizer and AdamW."""
    continue_lr: float = Field(3e-4, gt=0)
    """Peak learning rate of continued training; small models take more (1e-3), large ones less."""
    seed: int = Field(0, ge=0)
    """Seed of the initial weights and of the data order."""
    mixture: Mixture = Field(default_factory=dict)
    """Several corpora, or sources, by names of your own, and how much each counts (below); empty:
    this run's corpus as it is."""
    budget: Annotated[str, AfterValidator(_readable)] = ""
    """How long to train (90s, 4min, 2h), on how much (20M tokens) or how large a model (3M
    parameters): size and tokens follow from it, measured on this machine. Empty: as set below."""
    tokens: int = Field(1_000_000, ge=1)
    """Training tokens in all."""
    context: int = Field(256, ge=16, le=8192)
    """Tokens a block."""
    batch: int = Field(8, ge=1)
    """Blocks an optimizer step."""
    micro_batch: int = Field(0, ge=0)
    """Blocks that a process computes at once, where a step's do not fit into memory: gradients of
    several passes add up. 0: all of its blocks."""
    optimizer: str = Field("muon", pattern="^(muon|adamw)$")
    """muon: for the matrices between embedding and head, AdamW for the rest; adamw: for all."""
    lr: float = Field(1.6e-2, gt=0)
    """Peak learning rate of AdamW."""
    matrix_lr: float = Field(1e-2, gt=0)
    """Peak learning rate of Muon: the share of an update's own size that is taken."""
    weight_decay: float = Field(0.1, ge=0)
    """On matrices only."""
    warmup: int = Field(20, ge=0)
    """Steps of linear warm-up."""
    decay: float = Field(0.4, ge=0, le=1)
    """Share of the steps over which the learning rate falls to zero."""
    tokenizer_bytes: int = Field(100_000_000, ge=100_000)
    """UTF-8 bytes of training text, drawn by `seed` at the parts' shares, that the tokenizer is
    trained on; all of the text if it has less."""
    eval_blocks: int = Field(160, ge=1)
    """Blocks of held-out public text used for bpb."""
    moment_batches: int = Field(32, ge=0)
    """Batches of public text that the second moments for fine-tuning come from; 0: none."""
    replay_blocks: int = Field(512, ge=0)
    """Blocks of public text that travel with the base, so that fine-tuning can rehearse it."""
    checkpoint_every: int = Field(50, ge=1)
    """Steps between checkpoints."""
    tracker: str = Field("", pattern=KINDS, exclude=True)
    """Also log to `tensorboard`, `trackio` or `wandb`, if that package is installed; changes
    nothing of what is made."""
    prompts: tuple[str, ...] = ("The country is", "In the year", "The capital city", "She was")
    """Prompts of the samples."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """What is measured of the base."""
    model: ModelShape = ModelShape()
    """Size of the model."""
    compute: Compute = Compute()
    """Where it runs."""
    distributed: Distributed = Distributed()
    """How several processes share it."""
    safety: Safety = Safety()
    """What happens when the loss jumps."""

    def at_once(self, processes: int = 1) -> int:
        """Blocks that each of so many processes computes at once."""
        mine = -(-self.batch // processes)
        return min(self.micro_batch or mine, mine)

    def passes(self, processes: int = 1) -> int:
        """In how many parts each of so many processes computes its blocks of a step."""
        mine = -(-self.batch // processes)
        return -(-mine // self.at_once(processes))


def run(section: PretrainConfig, run_dir: Path) -> Artifact:
    """Train (or adopt) the base model out of `run_dir`/2-corpus into `run_dir`/3-base."""
    with join(section.compute) as world:
        if not world.first:
            _follow(world)
            return load_artifact(run_dir / "3-base", "base")
        made = _lead(section, run_dir, world)
        world.tell("")
        return made


def _lead(section: PretrainConfig, run_dir: Path, world: World) -> Artifact:
    corpus = load_artifact(run_dir / "2-corpus", "corpus")
    portions = open_mixture(section.mixture, corpus)
    link(portions, run_dir)
    adopted = adopt(section.base, section.revision) if section.base else None
    inputs = inputs_of(portions) if section.mixture else {}
    if adopted:
        inputs["base"] = adopted.digest
    if section.budget:
        inputs["given"] = given(section)
    return build_artifact(
        run_dir / "3-base",
        "base",
        [corpus],
        section,
        lambda work: _make(section, portions, adopted, work, world),
        inputs,
    )


def _make(
    section: PretrainConfig,
    portions: "list[Portion]",
    adopted: Adopted | None,
    work: Workspace,
    world: World,
) -> dict[str, Any]:
    from pretrain.blend import blend, epochs_of, warn_of_repeats
    from pretrain.capacity import check_fit, check_training
    from pretrain.evaluate import bits_per_byte, eval_set
    from pretrain.exam import by_corpus, examine, samples
    from pretrain.model import count, pick_device, save_model
    from pretrain.moments import save_moments
    from pretrain.portion import effective_bytes, heldout_texts
    from pretrain.replay import save_replay
    from pretrain.report import fragment
    from pretrain.scaling import outlook_of

    device = pick_device(section.compute)
    if adopted:
        section = continued(section)
        check_fit(settings_of(adopted.folder), section, world.size)
        model, tokenizer = load(adopted, section.context, device)
    else:
        size = effective_bytes((portion.share, portion.bytes) for portion in portions)
        if section.budget and world.size > 1:
            raise ConfigError(
                "pretrain.budget measures one process: give pretrain.tokens and the model's size "
                "where several train"
            )
        section = settle(section, size, work)
        model, tokenizer = _fresh(section, portions)
        check_training(model.config, section, world.size)
        model = model.to(device)  # type: ignore[arg-type]
    trains = not adopted or section.continue_training
    picks = steps_of(section) * section.batch if trains else 0
    data = blend(tokenizer, portions, section.context)
    warn_of_repeats(portions, epochs_of(data, picks))
    most = max(section.eval_blocks, section.evaluate.point_blocks)
    known = heldout_texts(portions, most * section.context)
    heldout = eval_set(tokenizer, known, section.context, section.eval_blocks)
    before = bits_per_byte(model, heldout, section.compute)
    log = MetricsLog(work.path / "metrics.jsonl")
    progress = Progress()
    if trains:
        points = eval_set(tokenizer, known, section.context, section.evaluate.point_blocks)
        progress = _train(section, model, data, points, log, work, world)
    bpb = bits_per_byte(model, heldout, section.compute)
    save_model(model, tokenizer, work.path)
    if section.replay_blocks:
        save_replay(data, section.replay_blocks, section.seed, work.path)
    if section.moment_batches:
        save_moments(
            model, data, section.batch, section.moment_batches, section.compute, work.path,
            -(-section.batch // section.at_once(world.size)),
        )
    said = samples(model, tokenizer, section.prompts, work.path)
    metrics = {
        "provenance": adopted.provenance if adopted else "trained on the parent corpus only",
        "parameters": count(model),
        "tokens": section.tokens if trains else 0,
        "shape": section.model.model_dump(),
        "corpus_tokens": sum(len(part.stream_N) for part in data.parts),
        "corpora": by_corpus(model, tokenizer, portions, data, picks, section),
        "bytes_per_token": round(heldout.bytes / max(1, len(heldout.blocks.stream_N)), 3),
        "processes": world.size,
        "batches_left_out": len(progress.skipped),
        "public_bpb_at_start": before,
        "public_bpb": bpb,
        "outlook": outlook_of(log.read(), section.batch * section.context, bpb),
        **examine(model, tokenizer, portions, section, work.path),
    }
    write_atomic(work.path / report.FRAGMENT, fragment(metrics, log.read(), said))
    return metrics


def _fresh(
    section: PretrainConfig, portions: "list[Portion]"
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    from pretrain.model import build_model
    from pretrain.sampling import sample_texts
    from pretrain.tokenizer import train_tokenizer

    texts = sample_texts(portions, section.tokenizer_bytes, section.seed)
    tokenizer = train_tokenizer(texts, section.model.vocab, section.context)
    end = int(tokenizer.eos_token_id)
    return build_model(section.model, section.context, end, section.seed), tokenizer


def _train(
    section: PretrainConfig,
    model: "PreTrainedModel",
    data: Data,
    points: "EvalSet",
    log: MetricsLog,
    work: Workspace,
    world: World,
) -> Progress:
    from pretrain.evaluate import bits_per_byte
    from pretrain.speed import flops_per_token, peak_flops
    from pretrain.watch import Watch

    folder = work.scratch("checkpoints")
    alone = section.model_dump(exclude={"mixture"})  # the others see no corpus
    job = {"section": alone, "model": model.config.to_dict(), "folder": str(folder)}
    world.tell(json.dumps(job, default=str))
    peak = peak_flops(section.compute) / flops_per_token(model.config, section.context)
    peak *= world.size
    run, settings = work.path.parent, section.model_dump(mode="json")
    with (
        bar(steps_of(section), "pretrain", "steps") as shown,
        tracking(section.tracker, run.name, run, settings) as track,
    ):
        watch = Watch(
            shown, log, track, lambda: bits_per_byte(model, points, section.compute), peak
        )
        progress = fit(section, model, data, folder, watch, world)
    if watch.tokens:
        rate = watch.tokens / watch.seconds
        work.note("tokens_per_second", round(rate))
        work.note("share_of_peak", round(rate / peak, 3))
    return progress


def _follow(world: World) -> None:
    """What every process but the first does: train when that one does, until it has ended."""
    from pretrain.model import model_of, pick_device

    while said := world.tell(""):
        job = json.loads(said)
        section = PretrainConfig.model_validate(job["section"])
        model = model_of(job["model"]).to(pick_device(section.compute))  # type: ignore[arg-type]
        fit(section, model, None, Path(job["folder"]), None, world)
