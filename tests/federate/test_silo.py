"""The privacy boundary: what arrives is checked, what leaves is allowed, recorded and no text."""

from pathlib import Path

import numpy as np
import pytest

from commonroot.errors import ArtifactError
from federate.ledger import Ledger
from federate.wire import decode, encode, l2_norm, shapes_of

from .conftest import MARKER, evaluate_request, train_request


def delta_of(silo, buffers):
    delta = decode(buffers, shapes_of({n: silo.bench.base_weights[n] for n in buffers}), np.inf)
    assert not isinstance(delta, str), delta
    return delta


def test_train_sends_a_delta_and_says_how_much_it_used(make_silo, base_buffers) -> None:
    silo = make_silo()
    header, out = silo.answer(train_request(), dict(base_buffers))
    assert header["info"] == {"client": "site-a"}
    assert 0 < header["metrics"]["tokens"] <= 3 * 2 * 64
    assert out.keys() == base_buffers.keys()
    assert l2_norm(delta_of(silo, out)) == pytest.approx(header["metrics"]["delta_norm"])


def test_a_repeated_request_gets_the_kept_reply_and_trains_nothing(make_silo, base_buffers) -> None:
    silo = make_silo()
    first = silo.answer(train_request(), dict(base_buffers))
    silo.bench.train = None  # type: ignore[method-assign]
    try:
        again = make_silo().answer(train_request(), dict(base_buffers))
    finally:
        del silo.bench.train
    assert again == first
    assert len([e for e in silo.ledger.entries() if e["kind"] == "train"]) == 1


def test_a_round_that_is_over_is_refused(make_silo, base_buffers) -> None:
    silo = make_silo()
    silo.answer(train_request(4), dict(base_buffers))
    header, out = silo.answer(train_request(3), dict(base_buffers))
    assert "over" in header["refused"]
    assert not out


def test_later_rounds_go_on_in_the_data(make_silo, base_buffers) -> None:
    silo = make_silo()
    silo.answer(train_request(0), dict(base_buffers))
    second, _ = silo.answer(train_request(1), dict(base_buffers))
    after_restart, _ = make_silo().answer(train_request(2), dict(base_buffers))
    assert len({second["metrics"]["loss"], after_restart["metrics"]["loss"]}) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: b.pop("model.norm.weight"), "names differ"),
        (lambda b: b.update(extra=b["model.norm.weight"]), "names differ"),
        (lambda b: b.update({"model.norm.weight": b"\x93NUMPY junk"}), "not a .npy array"),
        (lambda b: b.update(encode({"model.norm.weight": np.ones(1, np.float32)})), "shape"),
        (lambda b: b.update(encode({"model.norm.weight": np.ones(32)})), "type float64"),
        (
            lambda b: b.update(encode({"model.norm.weight": np.full(32, np.nan, np.float32)})),
            "not finite",
        ),
        (
            lambda b: b.update(encode({"model.norm.weight": np.full(32, 1e9, np.float32)})),
            "above 1000",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(make_silo, base_buffers, change, reason) -> None:
    buffers = dict(base_buffers)
    change(buffers)
    header, out = make_silo().answer(train_request(), buffers)
    assert reason in header["refused"]
    assert not out


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"kind": "dump", "config": {}}, "query, train or evaluate"),
        ({"kind": "train", "config": {}}, "unusable request"),
        (train_request(steps=5), "more steps"),
        (train_request(lr=0.5), "higher learning rate"),
        (train_request(steps=0), "greater than or equal"),
        (train_request(read_file="notes.txt"), "Extra inputs"),
        (train_request(run="../x"), "run String should match"),
    ],
)
def test_the_owner_s_bounds_hold_whatever_the_server_asks(
    make_silo, base_buffers, request_, reason
) -> None:
    header, out = make_silo(most_steps=4).answer(request_, dict(base_buffers))
    assert reason in header["refused"]
    assert not out


def test_limit_of_rounds(make_silo, base_buffers) -> None:
    silo = make_silo(most_rounds=1)
    assert "refused" not in silo.answer(train_request(0), dict(base_buffers))[0]
    assert "limit" in silo.answer(train_request(1), dict(base_buffers))[0]["refused"]


def test_clip_bounds_the_norm(make_silo, base_buffers) -> None:
    silo = make_silo(clip_norm=0.01)
    header, out = silo.answer(train_request(), dict(base_buffers))
    assert l2_norm(delta_of(silo, out)) == pytest.approx(0.01, rel=1e-4)
    assert header["metrics"]["delta_norm"] == pytest.approx(0.01)


def test_withheld_tensors_stay_and_are_used_again(make_silo, base_buffers) -> None:
    silo = make_silo(share=["model.layers.*"])
    _, out = silo.answer(train_request(0), dict(base_buffers))
    assert out
    assert all(name.startswith("model.layers.") for name in out)
    first, _ = silo.answer(train_request(1), dict(base_buffers))
    fresh = make_silo("site-a2", share=["model.layers.*"])
    fresh.answer(train_request(0), dict(base_buffers))
    (fresh.home / "state.frame").write_bytes(b"damaged")
    second, _ = fresh.answer(train_request(1), dict(base_buffers))
    assert first["metrics"]["loss"] != second["metrics"]["loss"]


def test_nothing_leaves_without_the_ledger(make_silo, base_buffers, monkeypatch) -> None:
    silo = make_silo()
    assert silo.split

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(silo.ledger, "append", full_disk)
    header, out = silo.answer(train_request(), dict(base_buffers))
    assert "ledger" in header["refused"]
    assert not out


def test_evaluate_and_personalise_send_figures_only(make_silo, base_buffers) -> None:
    silo = make_silo()
    personal = {"steps": 4, "batch": 2, "lr": 3e-3}
    header, out = silo.answer(evaluate_request(split="test", personal=personal), dict(base_buffers))
    assert not out
    assert header["metrics"]["personal_bpb"] > 0
    kept = silo.personal_weights("run1")
    changed = any((kept[n] != silo.bench.base_weights[n]).any() for n in kept)
    assert changed == bool(header["metrics"]["personal_chosen"])


def test_the_marker_is_in_no_reply_and_no_ledger(make_silo, base_buffers) -> None:
    silo = make_silo()
    assert MARKER in " ".join(silo.split.train + silo.split.validation + silo.split.test)
    said = [silo.answer({"kind": "query"}, {}), silo.answer(train_request(), dict(base_buffers))]
    assert MARKER not in repr(said)
    assert MARKER not in (silo.home / "ledger.jsonl").read_text()


def test_ledger_counts_the_bytes_and_breaks_when_touched(make_silo, base_buffers) -> None:
    silo = make_silo()
    _, out = silo.answer(train_request(), dict(base_buffers))
    path = silo.home / "ledger.jsonl"
    entries = Ledger(path).entries()
    assert entries[-1]["bytes"] > sum(map(len, out.values()))
    silo.answer(train_request(1), dict(base_buffers))
    text = path.read_text()
    path.write_text(text.replace('"round":0', '"round":9', 1))
    with pytest.raises(ArtifactError, match="line 2 breaks"):
        Ledger(path)


def test_a_cut_last_line_of_the_ledger_is_dropped(make_silo, base_buffers, tmp_path: Path) -> None:
    silo = make_silo()
    silo.answer(train_request(), dict(base_buffers))
    path = silo.home / "ledger.jsonl"
    before = len(Ledger(path).entries())
    with open(path, "a") as file:
        file.write('{"half":')
    assert len(Ledger(path).entries()) == before
