"""A client's own model: the best, on its validation text, of the ways between global and tuned."""

from collections.abc import Callable

import numpy as np
import pytest
from pydantic import ValidationError

from federate.comparison.arms import put
from federate.local import Weights, Workbench
from federate.personalize import PersonalConfig, choose
from pretrain.evaluate import EvalSet
from pretrain.packing import Blocks

Make = Callable[..., tuple[Weights, dict[str, float]]]


@pytest.fixture
def texts(bench: Workbench, text: Callable[[int, int], str]) -> tuple[Blocks, EvalSet]:
    train, validation = ([text(seed, 600)] for seed in (51, 52))
    return bench.pack(train), bench.eval_set(validation)


@pytest.fixture
def make(bench: Workbench, texts: tuple[Blocks, EvalSet]) -> Make:
    def make(**changes: object) -> tuple[Weights, dict[str, float]]:
        put(bench, bench.base_weights)
        how = PersonalConfig.model_validate({"steps": 6, "batch": 2, "lr": 2e-2} | changes)
        return choose(bench, texts[0], texts[1], how, seed=0, first=0, own={})

    return make


@pytest.mark.parametrize(("method", "lr"), [("finetune", 6e-3), ("dual", 2e-2)])
def test_what_is_kept_is_the_best_share_of_what_training_changed(
    method: str, lr: float, make: Make, bench: Workbench, texts: tuple[Blocks, EvalSet]
) -> None:
    start, (whole, _) = bench.base_weights, make(method=method, lr=lr, shares=(1.0,))
    on_the_way = {}
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        bench.load({name: start[name] + share * (whole[name] - start[name]) for name in start})
        on_the_way[share] = bench.bits_per_byte(texts[1])
    best = min(on_the_way, key=lambda share: on_the_way[share])
    assert 0 < best < 1, "training overshoots here, as it does on a little text"
    chosen, figures = make(method=method, lr=lr, shares=(0.2, 0.4, 0.6, 0.8, 1.0))
    assert (figures["personal_share"], figures["personal_chosen"]) == (best, 1)
    assert bench.bits_per_byte(texts[1]) == pytest.approx(on_the_way[best], abs=1e-5)
    for name, value in chosen.items():
        np.testing.assert_allclose(
            value, start[name] + best * (whole[name] - start[name]), atol=1e-6
        )


def test_a_client_that_nothing_helps_keeps_the_global_model(make: Make, bench: Workbench) -> None:
    chosen, figures = make(lr=1.0, shares=(0.5, 1.0))
    assert figures["personal_chosen"] == figures["personal_share"] == 0
    assert all((chosen[name] == value).all() for name, value in bench.base_weights.items())


def test_shares_are_parts_of_the_way() -> None:
    for share in (0.0, 1.5):
        with pytest.raises(ValidationError):
            PersonalConfig(shares=(share,))
