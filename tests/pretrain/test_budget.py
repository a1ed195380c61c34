"""The dial: what a budget buys."""

import pytest

from commonroot.config import parse_section
from commonroot.errors import ConfigError
from pretrain.budget import (
    MOST_EPOCHS,
    Budget,
    choose,
    flops_of,
    ladder,
    parameters_of,
    parse_budget,
    predicted_bpb,
)
from pretrain.model import ModelShape, build_model, count
from pretrain.settle import considered
from pretrain.speed import flops_per_token
from pretrain.stage import PretrainConfig


def best(text: str, corpus: int = 10**10, flops_per_second: float = 2e11):  # type: ignore[no-untyped-def]
    return choose(
        parse_budget(text),
        ladder(),
        corpus,
        lambda shape: flops_per_second / (6 * parameters_of(shape)),
    )[0]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90s", Budget(seconds=90)),
        ("4 min", Budget(seconds=240)),
        ("1.5h", Budget(seconds=5400)),
        ("20M tokens", Budget(tokens=20_000_000)),
        ("800 parameters", Budget(parameters=800)),
    ],
)
def test_budgets_are_read(text: str, meant: Budget) -> None:
    assert parse_budget(text) == meant


@pytest.mark.parametrize("text", ["4", "min", "4 minutes", "-1s", "3M", "3 M tokens"])
def test_other_words_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write a time"):
        parse_budget(text)
    with pytest.raises(ConfigError, match=r"pretrain\.budget .*write a time"):
        parse_section(PretrainConfig, "pretrain", {"pretrain": {"budget": text}})


def test_more_time_or_a_faster_machine_buys_more() -> None:
    minutes = [best(text) for text in ("1min", "4min", "1h", "24h")]
    sizes = [one.parameters for one in minutes]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    losses = [one.bpb for one in minutes]
    assert losses == sorted(losses, reverse=True)
    assert best("1min", flops_per_second=2e13).parameters > sizes[0]


def test_a_small_corpus_is_not_read_for_ever() -> None:
    choice = best("24h", corpus=300_000)
    assert choice.epochs <= MOST_EPOCHS
    assert choice.parameters <= 300_000, "it would learn the corpus by heart"
    assert choice.tokens < 16 * 150_000
    assert predicted_bpb(10**6, 10**6, 10**5) > predicted_bpb(10**6, 10**6, 10**6)
    assert predicted_bpb(10**6, 10**6, 10**5) < predicted_bpb(10**6, 10**5, 10**5)


def test_tokens_and_parameters_are_taken_at_their_word() -> None:
    assert best("20M tokens").tokens == 20_000_000
    assert 2e6 < best("3M parameters").parameters < 4.5e6


def test_parameters_are_counted_as_torch_counts_them() -> None:
    for shape in ladder()[:4]:
        assert parameters_of(shape) == pytest.approx(count(build_model(shape, 64, 0, 0)), rel=0.01)


def test_their_cost_is_that_of_the_model() -> None:
    shape = ladder()[3]
    config = build_model(shape, 64, 0, 0).config
    assert flops_of(shape, 64) == pytest.approx(flops_per_token(config, 64), rel=0.001)


def test_what_a_user_gives_stays() -> None:
    shape = ModelShape(hidden=32, layers=1, heads=1, kv_heads=1)
    section = PretrainConfig(budget="2s", model=shape)
    (choice,) = considered(section, 10**6)
    assert choice.shape == section.model
    assert choice.tokens > 0
    with pytest.raises(ConfigError, match="one of the two"):
        considered(PretrainConfig(budget="2s", tokens=1000), 10**6)


def test_a_vocabulary_alone_leaves_the_size_to_the_budget() -> None:
    section = PretrainConfig(budget="1M tokens", context=32, batch=1, model=ModelShape(vocab=500))
    choices = considered(section, 10**6)
    assert 1 < len(choices) < len(ladder(500)), "not those that a megabyte is too little for"
    assert {choice.shape.vocab for choice in choices} == {500}
