"""Several corpora at their shares: in which order, which texts, what the tokenizer sees."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commonroot.artifact import load_artifact
from commonroot.errors import ArtifactError, ConfigError, DataError
from pretrain import stage
from pretrain.blend import Blend, epochs_of, turns
from pretrain.mixture import Part, open_mixture
from pretrain.packing import Blocks
from pretrain.portion import effective_bytes, heldout_texts, texts_by_source
from pretrain.replay import load_replay, save_replay
from pretrain.sampling import sample_texts
from tests.pretrain.two_corpora import documents, make_two, opened, parts, seal

SHARES = [(0.5, 0.5), (0.7, 0.3), (0.9, 0.07, 0.03), (0.001, 0.999), (1.0,), (1 / 3,) * 3]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_two(tmp_path_factory.mktemp("two"))


# order


@pytest.mark.parametrize("shares", SHARES)
def test_every_stretch_of_picks_holds_each_part_at_its_share(shares: tuple[float, ...]) -> None:
    whole = turns(shares, 0, 3000)
    seen: Counter[int] = Counter()
    for pick, (part, number) in enumerate(whole, start=1):
        assert number == seen[part]
        seen[part] += 1
        for other, share in enumerate(shares):
            assert abs(seen[other] - share * pick) <= max(1, len(shares) / 2)


@pytest.mark.parametrize("shares", SHARES)
def test_where_a_part_stands_follows_from_the_number_of_the_pick(shares: tuple[float, ...]) -> None:
    whole = turns(shares, 0, 500)
    for first, last in [(0, 1), (3, 10), (499, 500), (37, 437)]:
        assert turns(shares, first, last) == whole[first:last]
    far = 10**12
    assert turns(shares, far, far + 40)[5:20] == turns(shares, far + 5, far + 20)


def marked(start: int, blocks: int) -> Blocks:
    return Blocks(np.arange(start, start + 8 * blocks + 1, dtype=np.int64), 8)


def test_each_part_is_read_without_replacement_epoch_by_epoch() -> None:
    data = Blend((marked(0, 30), marked(1000, 5)), (0.75, 0.25))
    seen: dict[bool, list[int]] = {False: [], True: []}
    for step in range(20):
        for row in data.batch(3, step, 4)[0]:
            seen[bool(row[0] >= 1000)].append(int(row[0]))
    assert (len(seen[False]), len(seen[True])) == (60, 20)
    for blocks, size in ((seen[False], 30), (seen[True], 5)):
        epochs = [blocks[at : at + size] for at in range(0, len(blocks), size)]
        assert all(len(set(epoch)) == size for epoch in epochs)
        assert epochs[0] != epochs[1]
    assert epochs_of(data, 80) == [2.0, 4.0]
    assert epochs_of(data, 0) == [0.0, 0.0]


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    data = Blend((marked(0, 30), marked(1000, 5)), (0.6, 0.4))
    again = Blend((marked(0, 30), marked(1000, 5)), (0.6, 0.4))
    for step in (7, 2, 7):
        for one, other in zip(data.batch(1, step, 4), again.batch(1, step, 4), strict=True):
            assert (one == other).all()
    assert (data.batch(1, 7, 4)[0] != data.batch(2, 7, 4)[0]).any()
    alone = Blend((marked(0, 30),), (1.0,))
    assert (alone.batch(1, 7, 4)[0] == marked(0, 30).batch(1, 7, 4)[0]).all()


def test_text_to_rehearse_is_drawn_at_the_shares(tmp_path: Path) -> None:
    save_replay(Blend((marked(0, 30), marked(1000, 20)), (0.6, 0.4)), 10, 0, tmp_path)
    kept = load_replay(tmp_path, 8)
    assert kept is not None
    assert Counter((kept.stream_N >= 1000).tolist()) == {False: 48, True: 32}


# which texts


def test_parts_of_one_corpus_share_no_document(two: Path) -> None:
    settings = {"b": Part(sources=("b.example",), weight=2), "rest": Part()}
    portions = opened(two, settings)
    assert [len(portion.sizes) for portion in portions] == [6, 20]
    assert [portion.share for portion in portions] == pytest.approx([2 / 3, 1 / 3])
    assert not {*portions[0].texts("train")} & {*portions[1].texts("train")}
    assert list(texts_by_source(portions)) == ["b: b.example", "rest: a.example"]


def test_what_is_held_out_anywhere_is_not_trained_on(tmp_path: Path) -> None:
    held = documents("a.example", range(1))
    seal(tmp_path / "own", documents("a.example", range(5, 9)), held)
    seal(tmp_path / "other", [*held, *documents("c.example", range(20, 22))], [])
    own, other = opened(tmp_path, parts(tmp_path))[::-1]
    assert len(other.sizes) == 2
    assert held[0][1] not in other.texts("train")
    assert list(own.texts("heldout")) == [held[0][1]]


def test_held_out_text_is_measured_at_the_shares(two: Path) -> None:
    portions = opened(two, parts(two, 1, 1))
    sizes = [sum(len(text.encode()) for text in one.texts("heldout")) for one in portions]
    few = heldout_texts(portions, min(sizes) // 8)
    taken = [sum(len(t.encode()) for t in few if t in one.texts("heldout")) for one in portions]
    assert taken[0] == pytest.approx(taken[1], rel=0.6)
    everything = heldout_texts(portions, 10**6)
    assert len(everything) == 6
    assert heldout_texts(opened(two, {}), 1) == everything[2:]


def test_a_mixture_is_worth_what_its_text_is_worth_on_average() -> None:
    assert effective_bytes([(0.25, 1_000), (0.75, 3_000)]) == 4_000
    assert effective_bytes([(1.0, 777)]) == 777
    assert effective_bytes([(0.5, 1_000), (0.5, 10**9)]) == pytest.approx(4_000, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"a": {"corpus": "x"}}, "one part has to be this run's own corpus"),
        ({"a": {}, "b": {}}, "a and b are the same corpus without `sources`"),
        ({"a": {"sources": ["s"]}, "b": {"sources": ["t", "s"]}}, "a and b both take s"),
        ({"A b": {}}, "should match pattern"),
        ({"a": {"weight": 0}}, "greater than 0"),
    ],
)
def test_parts_that_cannot_be_are_told(settings: dict[str, Any], words: str) -> None:
    from commonroot.config import parse_section

    with pytest.raises(ConfigError, match=words) as error:
        parse_section(stage.PretrainConfig, "pretrain", {"pretrain": {"mixture": settings}})
    assert "\n" not in str(error.value)


def test_a_misspelt_key_of_a_part_gets_a_suggestion() -> None:
    from commonroot.config import parse_section

    settings = {"pretrain": {"mixture": {"own": {"wieght": 2}}}}
    with pytest.raises(ConfigError, match=r"pretrain\.mixture\.own\.wieght; did you mean weight\?"):
        parse_section(stage.PretrainConfig, "pretrain", settings)


def test_corpora_that_are_not_there_are_told(two: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"pretrain\.mixture\.other: .*missing or unfinished"):
        opened(two, {"own": Part(), "other": Part(corpus=str(tmp_path))})
    copy = shutil.copytree(two / "own", tmp_path / "copy")
    with pytest.raises(ConfigError, match="the same corpus without `sources`"):
        opened(two, {"own": Part(), "other": Part(corpus=str(copy))})
    with pytest.raises(DataError, match=r"mixture\.x has no train text.*sources a\.example, b"):
        _ = opened(two, {"x": Part(sources=("d.example",))})[0].sizes


# the tokenizer's sample


def test_a_small_corpus_is_sampled_whole_and_in_its_order(two: Path) -> None:
    (alone,) = opened(two, {})
    assert list(sample_texts([alone], 10**8, 0)) == list(alone.texts("train"))


def test_the_sample_is_bounded_and_drawn_by_seed_at_the_shares(two: Path) -> None:
    portions = opened(two, parts(two, 2, 1))
    drawn = list(sample_texts(portions, 9_000, 5))
    assert drawn == list(sample_texts(portions, 9_000, 5)) != list(sample_texts(portions, 9_000, 6))
    assert 8_990 <= sum(len(text.encode()) for text in drawn) <= 9_000
    other = "\0".join(portions[0].texts("train"))
    of_other = sum(len(text.encode()) for text in drawn if text in other)
    assert of_other == pytest.approx(3_000, abs=10)


def test_a_part_smaller_than_its_share_is_drawn_again(two: Path) -> None:
    portions = opened(two, parts(two, 1, 1))
    drawn = Counter(sample_texts(portions, 10**8, 0))
    total = sum(portion.bytes for portion in portions)
    assert sum(len(t.encode()) * n for t, n in drawn.items()) == pytest.approx(total, abs=10)
    assert min(drawn[text] for text in portions[0].texts("train")) >= 2
    assert max(drawn[text] for text in portions[1].texts("train")) == 1


def test_a_cut_in_a_letter_leaves_text(tmp_path: Path) -> None:
    seal(tmp_path, [("a", "ä" * 50)], [])
    (alone,) = open_mixture({}, load_artifact(tmp_path / "2-corpus", "corpus"))
    assert list(sample_texts([alone], 7, 0)) == ["äää"]
