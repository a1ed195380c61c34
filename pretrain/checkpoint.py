"""Training checkpoints: safetensors and JSON only, written aside, hashed, the last two kept."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commonroot.artifact import file_sha256, write_atomic
from commonroot.progress import say

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = ["restore", "save"]

KEEP = 2


def save(
    folder: Path, model: "PreTrainedModel", optimizer: "torch.optim.Optimizer", step: int
) -> None:
    """Write weights, optimizer moments and `step` (steps done); data order follows from step."""
    from safetensors.torch import save_file

    target = folder / f"step-{step:08d}"
    beside = folder / ".writing"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    tensors = {f"model.{name}": value.detach() for name, value in model.named_parameters()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    save_file(
        {name: value.contiguous() for name, value in tensors.items()}, beside / "state.safetensors"
    )
    state = {"step": step, "sha256": file_sha256(beside / "state.safetensors")}
    write_atomic(beside / "state.json", json.dumps(state))
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old)


def restore(folder: Path, model: "PreTrainedModel", optimizer: "torch.optim.Optimizer") -> int:
    """Load the newest whole checkpoint and return its step, 0 if there is none.

    A damaged checkpoint is named on stderr and the one before it is used.
    """
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            state = json.loads((path / "state.json").read_text("utf-8"))
            whole = file_sha256(path / "state.safetensors") == state["sha256"]
        except (OSError, ValueError, KeyError):
            whole = False
        if not whole:
            say(f"checkpoint {path} is damaged: using the one before it")
            continue
        _fill(path / "state.safetensors", model, optimizer)
        return int(state["step"])
    return 0


def _fill(path: Path, model: "PreTrainedModel", optimizer: "torch.optim.Optimizer") -> None:
    import torch
    from safetensors.torch import load_file

    tensors = load_file(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    moments: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        part, _, rest = key.partition(".")
        if part == "optimizer":
            index, _, name = rest.partition(".")
            moments.setdefault(int(index), {})[name] = value
    state = optimizer.state_dict()
    optimizer.load_state_dict({**state, "state": moments})
