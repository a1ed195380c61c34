"""An experiment tracker of the user's choice; none is needed, and none is installed by default."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from commonroot.errors import ConfigError
from commonroot.progress import say

__all__ = ["KINDS", "Track", "tracking"]

KINDS = "^(|tensorboard|trackio|wandb)$"
"""Pattern of a config key that chooses one."""
PROJECT = "commonroot"

Track = Callable[[int, Mapping[str, float]], None]
"""Takes a step and its values."""


@contextmanager
def tracking(kind: str, name: str, folder: Path, config: Mapping[str, Any]) -> Iterator[Track]:
    """What to call with each step's values; `kind` "" tracks nothing.

    Files go into `folder`/KIND, away from what a stage seals. A tracker that fails is named once
    and then left alone: training goes on. Raises ConfigError if its package is not installed.
    """
    if not kind:
        yield lambda _step, _values: None
        return
    write, close = _open(kind, name, folder / kind, config)
    alive = True

    def track(step: int, values: Mapping[str, float]) -> None:
        nonlocal alive
        if alive:
            alive = _tried(kind, lambda: write(step, values))

    try:
        yield track
    finally:
        _tried(kind, close)


def _open(
    kind: str, name: str, folder: Path, config: Mapping[str, Any]
) -> tuple[Track, Callable[[], None]]:
    module = "torch.utils.tensorboard" if kind == "tensorboard" else kind
    try:
        found: Any = importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f'tracker = "{kind}" needs a package that is not installed: pip install {kind}'
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "tensorboard":
        writer = found.SummaryWriter(str(folder))
        return lambda step, values: _scalars(writer, step, values), writer.close
    where = {"dir": str(folder)} if kind == "wandb" else {}
    try:
        found.init(project=PROJECT, name=name, config=dict(config), resume="allow", **where)
    except Exception as error:
        first_line = (str(error).splitlines() or [repr(error)])[0]
        raise ConfigError(f'tracker = "{kind}" does not start: {first_line}') from None
    return lambda step, values: found.log(dict(values), step=step), found.finish


def _scalars(writer: Any, step: int, values: Mapping[str, float]) -> None:
    for key, value in values.items():
        writer.add_scalar(key, value, step)


def _tried(kind: str, call: Callable[[], None]) -> bool:
    try:
        call()
    except Exception as error:  # whatever it is, it is not worth a training run
        first_line = (str(error).splitlines() or [repr(error)])[0]
        say(f"{kind} failed and is left out from here on: {first_line}")
        return False
    return True
