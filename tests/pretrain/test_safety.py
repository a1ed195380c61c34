"""A loss that jumps and stays up: told from one odd batch, gone back from, and at last given up."""

from pathlib import Path

import numpy as np
import pytest

from commonroot.artifact import load_artifact
from commonroot.errors import DivergedError, TrainingError
from commonroot.progress import MetricsLog
from pretrain import loop, stage
from pretrain.loop import number_of_batch
from pretrain.safety import Safety, SpikeWatch
from pretrain.train import Step, gradients
from tests.conftest import build_corpus, tiny_pretrain

USUAL = [4.0 + 0.05 * (number % 7) for number in range(60)]


def test_one_odd_batch_is_no_spike_and_three_in_a_row_are() -> None:
    watch = SpikeWatch(Safety(), USUAL)
    for step, loss in enumerate([9.0, 4.1, 9.0, 9.0, 4.1, 4.2]):
        watch.see(step, loss)
    watch.see(6, 9.0)
    assert not watch.calm
    watch.see(7, 9.0)
    with pytest.raises(DivergedError, match=r"step 8: the loss is 9.000, usual is 4"):
        watch.see(8, 9.0)
    assert max(watch.losses) < 5


def test_noise_and_a_loss_that_falls_are_no_spike() -> None:
    rng = np.random.default_rng(0)
    watch = SpikeWatch(Safety())
    for step in range(3000):
        watch.see(step, 2 + 6 / (1 + step / 50) + 0.15 * float(rng.standard_t(4)))
    off = SpikeWatch(Safety(spike=0), USUAL)
    for step in range(9):
        off.see(step, 99.0)


def test_batches_that_are_left_out_are_never_read() -> None:
    skipped = (3, 4, 9)
    assert [number_of_batch(step, skipped) for step in range(8)] == [0, 1, 2, 5, 6, 7, 8, 10]


class Poisoned:
    """`gradients`, with no loss for the batches drawn at some calls."""

    def __init__(self, bad: set[bytes]) -> None:
        self.bad = bad

    def __call__(self, model, x_BT, y_BT, compute, **options):  # type: ignore[no-untyped-def]
        step = gradients(model, x_BT, y_BT, compute, **options)
        bad = x_BT.tobytes() in self.bad
        return Step(float("nan"), step.tokens, step.grad_norm) if bad else step


def poison(monkeypatch: pytest.MonkeyPatch, numbers: range) -> None:
    """Let the batches with these numbers have no loss, wherever they are met."""
    real = loop._prepare

    def prepare(section, model, data, *rest):  # type: ignore[no-untyped-def]
        bad = {data.batch(section.seed, n, section.batch)[0].tobytes() for n in numbers}
        with monkeypatch.context() as patch:
            patch.setattr("pretrain.train.gradients", Poisoned(bad))
            return real(section, model, data, *rest)

    monkeypatch.setattr(loop, "_prepare", prepare)


def test_a_run_goes_back_leaves_the_batches_out_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Batch 7 is bad: back to the beginning, and on with the batches from 8."""
    poison(monkeypatch, range(7, 8))
    build_corpus(tmp_path, range(30))
    stage.run(tiny_pretrain(), tmp_path)
    base = load_artifact(tmp_path / "3-base", "base")
    assert "step 7: loss nan is not finite: back to step" in capsys.readouterr().err
    assert 0 < base.metrics["batches_left_out"] <= 8
    log = MetricsLog(base.path / "metrics.jsonl").read()
    assert [record["step"] for record in log] == list(range(12))
    assert all(np.isfinite(record["loss"]) for record in log)


def test_after_so_many_times_it_stops_and_keeps_its_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, range(7, 200))
    build_corpus(tmp_path, range(30))
    settings = tiny_pretrain(safety=Safety(rollbacks=2))
    with pytest.raises(TrainingError, match=r"lower the lr \(after going back 2 times\)") as said:
        stage.run(settings, tmp_path)
    assert said.value.exit_code == 1
    assert list((tmp_path / "3-base.partial" / "checkpoints").glob("step-*"))
