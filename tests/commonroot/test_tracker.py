"""A tracker gets what it is told; one that is missing or fails costs no training run."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from commonroot.errors import ConfigError
from commonroot.tracker import tracking


def recorder(fails_at: int | None = None) -> tuple[ModuleType, list[Any]]:
    """What wandb and trackio have in common."""
    calls: list[Any] = []

    def log(values: dict[str, float], step: int) -> None:
        if step == fails_at:
            raise RuntimeError("no connection")
        calls.append((step, values))

    module = ModuleType("recorder")
    module.__dict__.update(
        init=lambda **options: calls.append(options), log=log, finish=lambda: calls.append("end")
    )
    return module, calls


@pytest.mark.parametrize("kind", ["wandb", "trackio"])
def test_every_step_is_logged(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, calls = recorder()
    monkeypatch.setitem(sys.modules, kind, module)
    with tracking(kind, "demo", tmp_path, {"lr": 0.1}) as track:
        track(0, {"loss": 2.0})
        track(1, {"loss": 1.0})
    assert (calls[0]["name"], calls[0]["config"]) == ("demo", {"lr": 0.1})
    assert calls[1:] == [(0, {"loss": 2.0}), (1, {"loss": 1.0}), "end"]


def test_tensorboard_gets_scalars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def writer(folder: str) -> SimpleNamespace:
        return SimpleNamespace(
            add_scalar=lambda *given: calls.append(given), close=lambda: calls.append(folder)
        )

    board = SimpleNamespace(SummaryWriter=writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    with tracking("tensorboard", "demo", tmp_path, {}) as track:
        track(3, {"loss": 2.0, "bpb": 1.0})
    assert calls == [("loss", 2.0, 3), ("bpb", 1.0, 3), str(tmp_path / "tensorboard")]


def test_a_tracker_that_fails_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, calls = recorder(fails_at=1)
    monkeypatch.setitem(sys.modules, "wandb", module)
    with tracking("wandb", "demo", tmp_path, {}) as track:
        for step in range(4):
            track(step, {"loss": 1.0})
    assert calls[1:] == [(0, {"loss": 1.0}), "end"]
    assert capsys.readouterr().err.count("wandb failed") == 1


def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    missing = tracking("trackio", "", tmp_path, {})
    with pytest.raises(ConfigError, match="pip install trackio"), missing:
        pass
    with tracking("", "demo", tmp_path, {}) as track:
        track(0, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []
