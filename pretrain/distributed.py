"""Several processes, on one machine or many, that train one model by DDP or FSDP2.

Every process runs the same loop. The first one alone reads the corpus, holds the stage's lock and
writes artifacts; it hands each batch out, of which every process takes its rows. Losses and
gradients are those of the whole batch, so the number of processes does not change what is learnt.

Shape suffixes: B blocks a batch, T tokens a block.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from commonroot.config import Section
from commonroot.errors import ConfigError, TrainingError
from pretrain.model import Compute, cores
from pretrain.packing import IGNORE, Int64
from pretrain.train import Gradients, LossFunction, Step, gradients

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

__all__ = ["ALONE", "Distributed", "World", "gather", "join", "sharing", "spread"]

PATIENCE = timedelta(days=1)
"""How long processes wait for each other: the first one also tokenizes and evaluates."""


class Distributed(Section):
    """How several processes share the work; they are started by `torchrun`."""

    how: str = Field("ddp", pattern="^(ddp|fsdp)$")
    """ddp: each holds the whole model. fsdp: each holds a part of weights and optimizer (FSDP2)."""


@dataclass(frozen=True)
class World:
    """The processes of a run, and which of them this is."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this one reads the corpus and writes artifacts."""
        return self.rank == 0

    def wait(self) -> None:
        """Return when all have come here."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()

    def agree(self, number: int) -> int:
        """The number that the first process gave."""
        import torch

        return int(self.take(torch.tensor([number])).item())

    def take(self, tensor: "torch.Tensor") -> "torch.Tensor":
        """The first process's tensor, in place of one of the same shape and type."""
        if self.size > 1:
            import torch.distributed as dist

            dist.broadcast(tensor, 0)
        return tensor

    def tell(self, text: str) -> str:
        """The text that the first process gave."""
        import torch

        letters = list(text.encode())
        length = self.agree(len(letters))
        sent = torch.tensor(letters if self.first else [0] * length, dtype=torch.uint8)
        return bytes(self.take(sent).tolist()).decode()

    def mean(self, value: float) -> float:
        """The mean over all processes, the same number in each."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        shared = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(shared)
        return float(shared.item()) / self.size


ALONE = World()


@contextmanager
def join(compute: Compute) -> Iterator[World]:
    """The processes that `torchrun` started; ALONE without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    cuda = compute.device in ("auto", "cuda") and torch.cuda.is_available()
    if compute.device == "mps":
        raise ConfigError("several processes train on CPUs or CUDA devices, not on mps")
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    elif not compute.threads:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", size))
        torch.set_num_threads(max(1, cores() // here))
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield World(dist.get_rank(), size)
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise TrainingError(
            "another process of this run ended: the same command again goes on at its checkpoint"
        ) from None
    finally:
        dist.destroy_process_group()


def spread(model: "PreTrainedModel", how: str, world: World) -> "PreTrainedModel":
    """The model to train: `model` itself, or one of which each process holds a part.

    All processes start from the weights of the first.
    """
    if world.size == 1:
        return model
    for parameter in model.parameters():
        world.take(parameter.data)
    if how != "fsdp":
        return model
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    parted = deepcopy(model)
    mesh = init_device_mesh(parted.device.type, (world.size,))
    layers = set(getattr(parted, "_no_split_modules", None) or ())
    for module in list(parted.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(parted, mesh=mesh)
    return parted


def gather(parted: "PreTrainedModel", model: "PreTrainedModel") -> None:
    """Put the weights of what `spread` gave back into `model`, whole, in every process."""
    import torch

    if parted is model:
        return
    with torch.no_grad():
        for own, part in zip(model.parameters(), parted.parameters(), strict=True):
            own.copy_(part.full_tensor())  # type: ignore[attr-defined]


def sharing(
    model: "PreTrainedModel", how: str, losses: LossFunction, world: World, passes: int = 1
) -> Gradients:
    """`gradients` over all processes: of the whole batch, of which each computes its rows."""
    parted = how == "fsdp"
    whole: Any = partial(losses, model) if parted else _seen_whole(model, losses)

    def share(_: "PreTrainedModel", x_BT: Int64, y_BT: Int64, compute: Compute) -> Step:
        rows = slice(world.rank, None, world.size)
        tokens = int((y_BT != IGNORE).sum())
        left = iter(range(passes - 1, -1, -1))

        def of_pass(_: Any, x: "torch.Tensor", y: "torch.Tensor") -> "torch.Tensor":
            waits = next(left) > 0 and not parted
            with whole.no_sync() if waits else nullcontext():
                total: torch.Tensor = whole(x, y)
            return total

        # torch takes the mean over the processes: each divides by its share of the tokens.
        step = gradients(
            model, x_BT[rows], y_BT[rows], compute,
            losses=of_pass, passes=passes, over=max(1, tokens) / world.size,
        )
        return Step(world.mean(step.loss), tokens, step.grad_norm)

    return share


def _seen_whole(model: "PreTrainedModel", losses: LossFunction) -> "nn.Module":
    """Model and loss as one module, for DDP has to see where the forward pass begins and ends."""
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x_BT: "torch.Tensor", y_BT: "torch.Tensor") -> "torch.Tensor":
            return losses(model, x_BT, y_BT)

    return DistributedDataParallel(Whole())
