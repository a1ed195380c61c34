"""The scaling line: finds a known law, keeps the truth within its interval, says when it cannot."""

import numpy as np
import pytest

from pretrain.scaling import fit, measure_after, outlook, outlook_of


def law(tokens: np.ndarray) -> np.ndarray:
    return 1.2 + 20 * tokens**-0.3


def test_a_known_law_is_found() -> None:
    tokens = np.geomspace(1e5, 6e5, 8)
    assert fit(tokens, law(tokens)) == pytest.approx((1.2, 20.0, 0.3), rel=1e-6)
    found = outlook(tokens, law(tokens), 1e6, law(np.array(1e6)) - 0.1)
    assert found is not None
    assert found.bpb == pytest.approx(law(np.array(1e7)) - 0.1, rel=1e-6)
    assert found.cooldown == pytest.approx(-0.1)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    tokens = np.geomspace(1e5, 6e5, 8)
    truth, hits = law(np.array(1e7)), 0
    for seed in range(40):
        seen = law(tokens) + np.random.default_rng(seed).normal(0, 0.01, 8)
        found = outlook(tokens, seen, 1e6, float(law(np.array(1e6))))
        assert found is not None
        hits += found.low <= truth <= found.high
    assert hits >= 34


def test_points_lie_in_the_constant_part_and_at_the_end() -> None:
    after = measure_after(1000, 10, 0.4, 8)
    assert (len(after), after[0], after[-2], after[-1]) == (9, 100, 600, 1000)
    assert measure_after(1000, 10, 0.4, 0) == []
    assert measure_after(3, 20, 0.4, 8)[-1] == 3


def test_too_few_points_give_no_line() -> None:
    log = [{"step": step, "heldout_bpb": 3 - step / 10} for step in range(5)]
    assert outlook_of(log, 64, 2.0) is None
    assert outlook_of([{"step": 0, "loss": 1.0}], 64, 2.0) is None
    assert outlook([1, 2, 3, 4], [4, 3, 2, 1], 5, 1) is None


def test_points_on_few_blocks_are_moved_to_the_whole_of_the_text() -> None:
    log = [{"step": n, "heldout_bpb": 1 + 5 * (n + 1) ** -0.4} for n in range(0, 80, 9)]
    found = outlook_of(log, 64, whole=3.0)
    assert found is not None
    assert found["points"][-1] == (pytest.approx(73 * 64), pytest.approx(3.0))
    few = outlook_of(log, 64, whole=log[-1]["heldout_bpb"])
    assert few is not None
    assert found["bpb"] - few["bpb"] == pytest.approx(3.0 - log[-1]["heldout_bpb"], abs=1e-6)
