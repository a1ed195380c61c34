"""Checkpoints: whole or named, never loaded when damaged; no room for one loses none."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from commonroot.errors import TrainingError
from pretrain import checkpoint
from pretrain.checkpoint import Progress, before, drop_after, restore, save
from pretrain.model import Compute, build_model
from pretrain.packing import Blocks
from pretrain.train import make_optimizer, train
from pretrain.trainstate import tensors_of
from tests.conftest import tiny_pretrain

CPU = Compute(threads=1, dtype="fp32")
DATA = Blocks(np.arange(1000, dtype=np.int64) % 300, 64)
Pair = tuple[torch.nn.Module, torch.optim.Optimizer]


def pair(seed: int = 0) -> Pair:
    model = build_model(tiny_pretrain().model, 64, 0, seed)
    return model, make_optimizer(model, 0.1)


def trained(folder: Path, steps: int = 3) -> Pair:
    """A model trained for some steps, a checkpoint after each."""
    model, optimizer = pair()
    batches = (DATA.batch(0, step, 2) for step in range(steps))
    for number, _ in enumerate(train(model, optimizer, batches, lambda _: 1e-3, CPU), start=1):
        save(folder, model, optimizer, Progress(number, "data", (1.5, 0.1 * number), (7,), 1))
    return model, optimizer


def same(one: Pair, other: Pair) -> bool:
    ours, theirs = tensors_of(*one), tensors_of(*other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_what_is_loaded_is_what_was_saved_and_two_are_kept(tmp_path: Path) -> None:
    whole, fresh = trained(tmp_path), pair(seed=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    assert restore(tmp_path, *fresh, "data") == Progress(3, "data", (1.5, 0.1 * 3), (7,), 1)
    assert same(whole, fresh)
    assert not [p for p in tmp_path.rglob("*") if p.suffix not in ("", ".json", ".safetensors")]


def test_a_moment_of_another_type_than_its_weight_keeps_it(tmp_path: Path) -> None:
    model, optimizer = trained(tmp_path)
    for state in optimizer.state.values():
        state["exp_avg"] = state["exp_avg"].bfloat16()
    save(tmp_path, model, optimizer, Progress(4))
    fresh = pair()
    restore(tmp_path, *fresh)
    assert same((model, optimizer), fresh)
    assert {s["exp_avg"].dtype for s in fresh[1].state.values()} == {torch.bfloat16}


def flip(path: Path) -> None:
    data = bytearray((path / "state.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "state.safetensors").write_bytes(data)


def cut(path: Path) -> None:
    data = (path / "state.safetensors").read_bytes()
    (path / "state.safetensors").write_bytes(data[:-1])


def edit(path: Path) -> None:
    state = json.loads((path / "state.json").read_text())
    state["progress"]["losses"][0] = 9.0
    (path / "state.json").write_text(json.dumps(state))


def stale_tensors(path: Path) -> None:
    shutil.copy(path.with_name("step-00000002") / "state.safetensors", path)


def stale_folder(path: Path) -> None:
    shutil.rmtree(path)
    shutil.copytree(path.with_name("step-00000002"), path)


def gone(path: Path) -> None:
    (path / "state.json").unlink()


def no_object(path: Path) -> None:
    (path / "state.json").write_text("[1]")


def one_more(path: Path) -> None:
    shutil.copy(path / "state.safetensors", path / "more.safetensors")


DAMAGES = [flip, cut, edit, stale_tensors, stale_folder, gone, no_object, one_more]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_one_is_named_and_the_one_before_it_used(
    damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path)
    damage(tmp_path / "step-00000003")
    fresh = pair(seed=1)
    found = restore(tmp_path, *fresh, "data")
    assert found is not None
    assert found.step == 2
    assert float(next(iter(fresh[1].state.values()))["step"]) == 2
    assert "step-00000003 is damaged" in capsys.readouterr().err


def test_none_whole_is_said_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path)
    for path in tmp_path.iterdir():
        flip(path)
    fresh = pair(seed=1)
    assert restore(tmp_path, *fresh, "data") is None
    assert same(fresh, pair(seed=1))
    assert "starting from the beginning" in capsys.readouterr().err


def test_that_of_another_model_or_of_other_data_is_not_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path)
    wider = build_model(tiny_pretrain().model.model_copy(update={"hidden": 64}), 64, 0, 0)
    assert restore(tmp_path, wider, make_optimizer(wider, 0.1), "data") is None
    assert restore(tmp_path, *pair(), "other data") is None
    said = capsys.readouterr().err
    assert "of another shape" in said
    assert "of other data" in said


def test_no_room_is_one_line_and_those_before_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for where, name in ((safetensors.torch, "save_file"), (checkpoint.os, "fsync")):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, full)
            with pytest.raises(TrainingError, match=r"step 4 .*No space left.*make room") as said:
                save(tmp_path, *whole, Progress(4, "data"))
        assert said.value.exit_code == 1
        assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    fresh = pair(seed=1)
    assert restore(tmp_path, *fresh, "data") is not None
    assert same(whole, fresh)


def test_going_back_forgets_what_came_later(tmp_path: Path) -> None:
    trained(tmp_path)
    assert [before(tmp_path, step) for step in (9, 3, 2, 0)] == [3, 3, 2, 2]
    drop_after(tmp_path, 2)
    assert before(tmp_path, 9) == 2
    assert before(tmp_path / "none", 9) == 0
