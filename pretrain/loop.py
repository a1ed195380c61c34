"""The training loop of a base model: resumes to the bit, goes back from a spike, on many processes.

What happens at a step follows from (seed, step) and the weights alone, so a run that was killed,
or went back, ends where an unbroken one does.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from commonroot.errors import ConfigError, DivergedError, TrainingError
from commonroot.progress import say
from pretrain import checkpoint
from pretrain.checkpoint import Progress
from pretrain.distributed import ALONE, World, gather, sharing, spread
from pretrain.model import in_order
from pretrain.packing import Int64
from pretrain.safety import SpikeWatch
from pretrain.scaling import measure_after
from pretrain.train import Gradients
from pretrain.watch import Watch

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pretrain.stage import PretrainConfig

__all__ = ["Data", "fit", "number_of_batch", "steps_of"]

MARGIN = 10
"""A checkpoint younger than so many steps before a spike may hold its cause."""


class Data(Protocol):
    """Whatever has batches in an order of (seed, step)."""

    def batch(self, seed: int, step: int, size: int) -> tuple[Int64, Int64]:
        """Inputs and targets (B, T)."""


@dataclass(frozen=True)
class _Run:
    """What stays the same over a run."""

    section: "PretrainConfig"
    whole: "PreTrainedModel"
    model: "PreTrainedModel"
    """What is trained: `whole` itself, or the part of it that this process holds."""
    optimizer: "torch.optim.Optimizer"
    data: Data | None
    folder: Path
    watch: Watch | None
    """As `data`: None in all processes but the first."""
    world: World
    gradient: Gradients
    steps: int
    order: str


def fit(
    section: "PretrainConfig",
    model: "PreTrainedModel",
    data: Data | None,
    folder: Path,
    watch: Watch | None,
    world: World = ALONE,
) -> Progress:
    """Train `model` to the end of its steps, from its newest checkpoint in `folder` on.

    All processes of `world` call this; `data` and `watch` are the first one's. Raises
    TrainingError.
    """
    run = _prepare(section, model, data, folder, watch, world)
    progress = _restored(run)
    with in_order(section.compute):
        while progress.step < run.steps:
            try:
                progress = _advance(run, progress)
            except DivergedError as trouble:
                progress = _go_back(run, progress, trouble)
    gather(run.model, model)
    return progress


def steps_of(section: "PretrainConfig") -> int:
    """Optimizer steps in all."""
    return max(1, section.tokens // (section.batch * section.context))


def number_of_batch(step: int, skipped: Sequence[int]) -> int:
    """The batch of `step` (from 0) if the batches with the numbers `skipped` are left out."""
    number = step
    for gap in sorted(skipped):
        if gap <= number:
            number += 1
    return number


def _prepare(
    section: "PretrainConfig",
    model: "PreTrainedModel",
    data: Data | None,
    folder: Path,
    watch: Watch | None,
    world: World,
) -> _Run:
    import torch

    from pretrain.train import gradients, pick_losses, pick_optimizer, stock_losses

    if section.batch < world.size:
        raise ConfigError(f"pretrain.batch must be at least {world.size}, one block a process")
    if section.micro_batch and section.batch % world.size:
        raise ConfigError(
            f"pretrain.batch must be a multiple of the {world.size} processes where "
            "pretrain.micro_batch is set"
        )
    how = section.distributed.how
    parted = spread(model, how, world)
    compute = section.compute
    losses = torch.compile(stock_losses) if compute.compile else pick_losses(compute)
    passes = section.passes(world.size)
    gradient = (
        sharing(parted, how, losses, world, passes)
        if world.size > 1
        else partial(gradients, losses=losses, passes=passes)
    )
    steps = steps_of(section)
    optimizer = pick_optimizer(parted, section)
    order = _order(section, data, steps) if data else ""
    return _Run(
        section, model, parted, optimizer, data, folder, watch, world, gradient, steps, order
    )


def _order(section: "PretrainConfig", data: Data, steps: int) -> str:
    """Digest of the first and last batch: other data, or another order, gives another."""
    digest = hashlib.sha256()
    for step in (0, steps - 1):
        for array in data.batch(section.seed, step, section.batch):
            digest.update(array.tobytes())
    return digest.hexdigest()


def _restored(run: _Run) -> Progress:
    """Where to go on. A run that begins writes a checkpoint at once, to have one to go back to."""
    found = checkpoint.restore(run.folder, run.model, run.optimizer, run.order, run.world)
    if found:
        return found
    begin = Progress(order=run.order)
    checkpoint.save(run.folder, run.model, run.optimizer, begin, run.world)
    return begin


def _advance(run: _Run, progress: Progress) -> Progress:
    """Train to the last step. Raises DivergedError at a spike."""
    from pretrain.train import schedule, train

    section, steps, first = run.section, run.steps, progress.step
    lr = schedule(section.lr, steps, section.warmup, section.decay)
    points = set(measure_after(steps, section.warmup, section.decay, section.evaluate.points))
    spikes = SpikeWatch(section.safety, progress.losses)
    if run.watch:
        run.watch.begin(first)
    batches = _batches(run, progress)
    done = train(run.model, run.optimizer, batches, lr, section.compute, first, run.gradient)
    for number, step in enumerate(done, start=first):
        spikes.see(number, step.loss)
        progress = replace(progress, step=number + 1, losses=spikes.losses)
        if progress.step in points:
            gather(run.model, run.whole)
        if run.watch:
            run.watch.step(number, step, progress.step in points)
        due = progress.step % section.checkpoint_every == 0 or progress.step == steps
        if due and spikes.calm:
            checkpoint.save(run.folder, run.model, run.optimizer, progress, run.world)
    return progress


def _batches(run: _Run, progress: Progress) -> Iterator[tuple[Int64, Int64]]:
    """The first process's batches, with the generators of dropout seeded for each."""
    import numpy as np
    import torch

    section, world = run.section, run.world
    device = next(run.model.parameters()).device
    for step in range(progress.step, run.steps):
        number = number_of_batch(step, progress.skipped)
        seed = int(np.random.SeedSequence([section.seed, number, world.rank]).generate_state(1)[0])
        torch.default_generator.manual_seed(seed)
        if device.type != "cpu":
            torch.get_device_module(device).manual_seed(seed)
        if run.data:
            both = np.stack(run.data.batch(section.seed, number, section.batch))
        else:
            both = np.zeros((2, section.batch, section.context), dtype=np.int64)
        x_BT, y_BT = world.take(torch.from_numpy(both)).numpy()
        yield x_BT, y_BT


def _go_back(run: _Run, progress: Progress, trouble: DivergedError) -> Progress:
    """Load the checkpoint before `trouble` and leave out the batches since.

    Chowdhery et al. 2022, PaLM, section 5.1, https://arxiv.org/abs/2204.02311.
    """
    allowed = run.section.safety.rollbacks
    if progress.rollbacks >= allowed:
        tried = f" (after going back {allowed} times)" if allowed else ""
        raise TrainingError(f"{trouble}{tried}") from None
    most = checkpoint.before(run.folder, trouble.step - MARGIN)
    back = checkpoint.restore(run.folder, run.model, run.optimizer, run.order, run.world, most)
    if back is None:
        raise TrainingError(f"{trouble}, and no checkpoint to go back to") from None
    since = range(back.step, trouble.step + 1)
    skipped = {*progress.skipped, *(number_of_batch(step, progress.skipped) for step in since)}
    if run.world.first:
        left_out = f"leaving out {len(since)} batches"
        say(f"step {trouble.step}: {trouble.what}: back to step {back.step}, {left_out}")
        checkpoint.drop_after(run.folder, back.step)
    run.world.wait()
    return replace(back, skipped=tuple(sorted(skipped)), rollbacks=progress.rollbacks + 1)
