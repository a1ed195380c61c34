"""The event loop on the virtual clock: the same bits after a resume, with any number of workers."""

from typing import Any

import pytest

from tests.federate.pacing.toy_rounds import MODES, PowerCut, Rounds, silos, spread


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("workers", [2, 50])
def test_the_number_of_workers_changes_nothing(mode: str, workers: int) -> None:
    one = Rounds(MODES[mode], spread(), silos(spread())).run(12)
    more = Rounds(MODES[mode], spread(), silos(spread()), step=workers).run(12)
    assert one.records == more.records
    assert one.weights.tobytes() == more.weights.tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_a_run_resumes_to_the_same_bits_at_every_boundary_and_in_between(mode: str) -> None:
    whole = Rounds(MODES[mode], spread(), silos(spread())).run(14)
    for power in range(1, 90, 4):
        kept = silos(spread())
        cut = Rounds(MODES[mode], spread(), kept)
        cut.power, saved = power, cut.checkpoint()
        records: list[dict[str, Any]] = []
        try:
            while len(records) < 14:
                cut.round()
                saved, records = cut.checkpoint(), list(cut.records)
        except PowerCut:
            pass
        again = Rounds(MODES[mode], spread(), kept, step=3)
        again.resume(saved, records)
        again.run(14)
        assert again.records == whole.records
        assert again.weights.tobytes() == whole.weights.tobytes()


def test_a_round_in_order_holds_one_reply_at_a_time() -> None:
    rounds = Rounds(MODES["synchronous"], spread(dropout=0.0), silos(spread()), cohort=30).run(3)
    assert rounds.most_held == 0
    buffered = Rounds(MODES["fedbuff"], spread(), silos(spread())).run(20)
    assert buffered.most_held < 12
