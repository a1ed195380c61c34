"""What a step of cleaning is worth: equal tokens, one held-out text that no arm trains on."""

from pathlib import Path

import pytest

from ingest import clean, gather
from ingest.clean import CleanConfig
from ingest.gather import GatherConfig
from ingest.sources.files import FilesConfig
from pretrain import ablation
from pretrain.ablation import ARMS, FULL, AblateConfig
from pretrain.model import ModelShape
from tests.conftest import tiny_pretrain
from tests.ingest.articles import article

pytestmark = pytest.mark.slow

SHAPE = ModelShape(hidden=32, layers=1, heads=2, kv_heads=1, intermediate=64, vocab=400)
TINY = AblateConfig(seeds=2, tokens=2_048, context=32, eval_blocks=8, model=SHAPE)
CLEANING = CleanConfig(workers=1, heldout=0.2)


@pytest.fixture
def gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a corpus: sixteen articles, copies of all of them, and a thin page."""
    folder, run_dir = tmp_path / "docs", tmp_path / "run"
    folder.mkdir()
    for index in range(16):
        (folder / f"a{index:02d}.txt").write_text(article(index))
        (folder / f"b{index:02d}.txt").write_text(article(index).replace(".", "!"))
    (folder / "thin.txt").write_text("This page is thin. " * 3)
    gather.run(GatherConfig(files=FilesConfig(folder=str(folder))), run_dir)
    clean.run(CLEANING, run_dir)
    few = (FULL, "quality rules", "all duplicates")
    monkeypatch.setattr(ablation, "ARMS", {name: ARMS[name] for name in few})
    return run_dir


def test_arms_differ_by_a_step_and_share_the_heldout_text(
    gathered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, int] = {}
    trained = ablation._trained

    def spy(section, tokenizer, arm, heldout, seed, advance):  # type: ignore[no-untyped-def]
        seen[arm.name] = id(heldout)
        return trained(section, tokenizer, arm, heldout, seed, advance)

    monkeypatch.setattr(ablation, "_trained", spy)
    made = ablation.run(TINY, CLEANING, tiny_pretrain(), gathered)
    arms = made.metrics["arms"]
    heldout = clean.run(CLEANING, gathered).metrics["heldout"]
    assert len(set(seen.values())) == 1
    assert arms[FULL]["texts"] + heldout == 16
    assert arms["quality rules"]["texts"] == arms[FULL]["texts"] + 1
    assert arms["all duplicates"]["texts"] == 2 * arms[FULL]["texts"]
    assert arms["all duplicates"]["shared"] == heldout  # their copies are left out
    assert arms[FULL]["above"] == 0
    assert all(0 < arm["bpb"] < 9 for arm in arms.values())
    report = (made.path / "report.html").read_text("utf-8")
    assert "Does cleaning pay?" in report
    assert "<svg" in report


def test_a_killed_run_goes_on_and_ends_the_same(
    gathered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, calls = ablation._trained, []

    def killed(*args):  # type: ignore[no-untyped-def]
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(args)
        return trained(*args)

    monkeypatch.setattr(ablation, "_trained", killed)
    with pytest.raises(KeyboardInterrupt):
        ablation.run(TINY, CLEANING, tiny_pretrain(), gathered)
    monkeypatch.setattr(ablation, "_trained", trained)
    resumed = ablation.run(TINY, CLEANING, tiny_pretrain(), gathered)
    assert resumed.fresh
    for path in sorted((gathered / ablation.FOLDER).rglob("*"), reverse=True):
        path.unlink()
    whole = ablation.run(TINY, CLEANING, tiny_pretrain(), gathered)
    assert whole.digest == resumed.digest
    assert not ablation.run(TINY, CLEANING, tiny_pretrain(), gathered).fresh
