"""Training checkpoints: safetensors and JSON only, written aside, hashed, the last two kept.

A checkpoint is a folder `step-N`: tensors in one file, or in one a process, and `state.json` with
the hash of each file and of itself. It takes its name by one rename after every byte has reached
the disk, so a kill, a full disk or a power cut leaves those before it. Nothing random is stored:
the order of the data and the seed of dropout are functions of (seed, step).
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commonroot.artifact import file_sha256, text_sha256, write_atomic
from commonroot.errors import ArtifactError, TrainingError
from commonroot.progress import say
from pretrain.distributed import ALONE, World
from pretrain.trainstate import check, fill, tensors_of

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Progress", "before", "drop_after", "read_progress", "restore", "save"]

KEEP = 2
STATE = "state.json"
WHOLE = "state.safetensors"


@dataclass(frozen=True)
class Progress:
    """Where a run stands, beside its tensors."""

    step: int = 0
    """Steps done."""
    order: str = ""
    """Digest of the data and the order in which it is read."""
    losses: tuple[float, ...] = ()
    """The latest training losses, by which a spike is told (pretrain.safety)."""
    skipped: tuple[int, ...] = ()
    """Numbers of the batches that are left out."""
    rollbacks: int = 0
    """How often the run went back."""


def save(
    folder: Path,
    model: "nn.Module",
    optimizer: "torch.optim.Optimizer",
    progress: Progress,
    world: World = ALONE,
) -> None:
    """Write what `restore` needs to go on to the bit, and forget all but the last `KEEP`.

    Raises TrainingError if it cannot be written; the checkpoints before it are then whole.
    """
    from safetensors import SafetensorError

    beside = folder / ".writing"
    try:
        if world.first:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
        world.wait()
        _write_tensors(beside, model, optimizer, world)
        world.wait()
        if world.first:
            _finish(beside, folder / _name(progress.step), progress)
            _keep_last(folder)
        world.wait()
    except (OSError, SafetensorError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TrainingError(
            f"cannot write the checkpoint of step {progress.step} into {folder} ({why}); those "
            "before it are kept: make room and run the same command again"
        ) from None


def restore(
    folder: Path,
    model: "nn.Module",
    optimizer: "torch.optim.Optimizer",
    order: str = "",
    world: World = ALONE,
    most: int | None = None,
) -> Progress | None:
    """Load the newest whole checkpoint of at most `most` steps; None if there is none.

    A damaged one, or one of other data, is named on stderr and the one before it is used.
    """
    steps = _steps(folder, most) if world.first else []
    for step in steps:
        path = folder / _name(step)
        try:
            progress = read_progress(path, order)
            check(_shapes(path), model)
        except ArtifactError as error:
            say(f"checkpoint {path} is damaged ({error}): using the one before it")
            continue
        world.agree(step)
        _load(path, model, optimizer)
        return progress
    if world.first:
        if steps:
            say(f"no checkpoint in {folder} is whole: starting from the beginning")
        world.agree(-1)
        return None
    step = world.agree(0)
    if step < 0:
        return None
    progress = read_progress(folder / _name(step), None)
    _load(folder / _name(step), model, optimizer)
    return progress


def before(folder: Path, step: int) -> int:
    """Steps of the newest checkpoint of at most `step` steps, or else of the oldest; 0 if none."""
    steps = _steps(folder, None)
    return next((one for one in steps if one <= step), steps[-1] if steps else 0)


def drop_after(folder: Path, step: int) -> None:
    """Forget the checkpoints that a run which goes back to `step` leaves behind."""
    for later in _steps(folder, None):
        if later > step:
            shutil.rmtree(folder / _name(later))


def read_progress(path: Path, order: str | None) -> Progress:
    """What a checkpoint folder says of itself, every byte of it checked.

    Raises ArtifactError saying what is wrong; `order` None: of any data.
    """
    try:
        state = json.loads((path / STATE).read_text("utf-8"))
        if state.pop("sha256") != text_sha256(state):
            raise ArtifactError(f"{STATE} was changed")
        for name, digest in state["files"].items():
            if file_sha256(path / name) != digest:
                raise ArtifactError(f"{name} was changed")
        lists = {key: tuple(state["progress"][key]) for key in ("losses", "skipped")}
        progress = Progress(**(state["progress"] | lists))
    except OSError as error:
        raise ArtifactError(f"{Path(error.filename or path).name}: {error.strerror}") from None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ArtifactError(f"{STATE} is not what was written") from None
    found = {file.name for file in path.glob("*.safetensors")}
    if found != set(state["files"]) or not found:
        raise ArtifactError("a file is missing or was added")
    if path.name != _name(progress.step):
        raise ArtifactError(f"it is of step {progress.step}")
    if order is not None and progress.order != order:
        raise ArtifactError("it is of other data")
    return progress


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _steps(folder: Path, most: int | None) -> list[int]:
    """Steps that have a checkpoint, newest first."""
    numbers = (path.name.removeprefix("step-") for path in folder.glob("step-*"))
    steps = sorted((int(number) for number in numbers if number.isdecimal()), reverse=True)
    return [step for step in steps if most is None or step <= most]


def _write_tensors(
    beside: Path, model: "nn.Module", optimizer: "torch.optim.Optimizer", world: World
) -> None:
    from safetensors.torch import save_file

    from pretrain.sharded import is_sharded, write_shards

    if is_sharded(model):
        write_shards(beside, tensors_of(model, optimizer))
    elif world.first:
        tensors = tensors_of(model, optimizer)
        save_file({name: value.contiguous() for name, value in tensors.items()}, beside / WHOLE)


def _finish(beside: Path, target: Path, progress: Progress) -> None:
    """Hash, bring everything to the disk, and give the folder its name."""
    files = sorted(beside.glob("*.safetensors"))
    state: dict[str, Any] = {
        "format": 2,
        "progress": asdict(progress),
        "files": {file.name: file_sha256(file) for file in files},
    }
    state = json.loads(json.dumps(state))
    write_atomic(beside / STATE, json.dumps(state | {"sha256": text_sha256(state)}, indent=1))
    for path in (*files, beside):
        _to_disk(path)
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)
    _to_disk(target.parent)


def _to_disk(path: Path) -> None:
    """fsync a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _keep_last(folder: Path) -> None:
    for step in _steps(folder, None)[KEEP:]:
        shutil.rmtree(folder / _name(step))


def _shapes(path: Path) -> dict[str, Any]:
    from pretrain.sharded import describe

    return describe(path)


def _load(path: Path, model: "nn.Module", optimizer: "torch.optim.Optimizer") -> None:
    from safetensors.torch import load_file

    from pretrain.sharded import is_sharded, read_shards

    alone = (path / WHOLE).exists() and not is_sharded(model)
    fill(load_file(path / WHOLE) if alone else read_shards(path, model), model, optimizer)
