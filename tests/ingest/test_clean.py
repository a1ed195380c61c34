"""From archive to corpus: every page kept or dropped with a reason, readable by stock tools."""

import json
from pathlib import Path
from typing import Any

import pytest

from commonroot.artifact import Artifact
from commonroot.errors import ArtifactError, DataError
from ingest import clean, gather
from ingest.clean import CleanConfig
from ingest.datasheet import OPEN
from ingest.gather import GatherConfig
from ingest.quality import QualityConfig
from ingest.sources.files import FilesConfig
from tests.ingest.articles import article


@pytest.fixture
def web(tmp_path: Path) -> tuple[Path, Path]:
    """(run folder, folder of documents); ten articles, gathered."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for index in range(10):
        (folder / f"a{index}.txt").write_text(article(index))
    run_dir = tmp_path / "run"
    gather.run(GatherConfig(files=FilesConfig(folder=str(folder))), run_dir)
    return run_dir, folder


def _rejects(corpus: Artifact) -> dict[str, str]:
    lines = (corpus.path / "rejects.jsonl").read_text("utf-8").splitlines()
    return {record["url"]: record["reason"] for record in map(json.loads, lines)}


def test_the_corpus_loads_with_stock_datasets(
    web: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    corpus = clean.run(CleanConfig(workers=1), web[0])
    from datasets import load_dataset

    data = load_dataset(str(corpus.path), cache_dir=str(tmp_path / "cache"))
    assert set(data) == {"train", "heldout"}
    assert data["train"].num_rows + data["heldout"].num_rows == 10
    row: dict[str, Any] = data["train"][0]
    assert row["text"] == article(int(row["url"][-5]))
    assert json.loads(row["decisions"])["language"][0] == "en"
    assert set(row) == {
        "text",
        "url",
        "fetched_at",
        "sha256",
        "licence",
        "warc_offset",
        "language",
        "decisions",
    }


def test_the_card_and_the_datasheet_say_what_the_records_prove(web: tuple[Path, Path]) -> None:
    run_dir, folder = web
    terms = '<link rel="license" href="https://creativecommons.org/licenses/by-sa/4.0/">'
    (folder / "b.html").write_text(f"<html><head>{terms}</head><p>{article(12)}</p></html>")
    gather.run(GatherConfig(files=FilesConfig(folder=str(folder))), run_dir)
    corpus = clean.run(CleanConfig(workers=1), run_dir)
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(corpus.path / "README.md")
    assert card.data.license == ["cc-by-sa-4.0", "unknown"]
    assert card.data.language == ["en"]
    assert card.data.size_categories == ["n<1K"]
    assert "| CC-BY-SA-4.0 | 1 |" in card.text
    assert "| rel=license | 1 |" in card.text
    assert "| EMAIL | 1.0" in card.text or "| EMAIL | 0.9" in card.text
    sheet = (corpus.path / "DATASHEET.md").read_text("utf-8")
    for part in ("Motivation", "Composition", "Collection process", "Uses", "Maintenance"):
        assert f"\n## {part}\n" in sheet
    assert "11, " in sheet
    assert OPEN in sheet
    assert str(folder) not in sheet
    assert "personal data of a known form replaced" in card.text
    kept = clean.run(CleanConfig(workers=1, redact_pii=False), run_dir)
    for name in ("DATASHEET.md", "README.md"):
        told = (kept.path / name).read_text("utf-8")
        assert "not looked for and not replaced" in told
        assert "of a known form replaced" not in told
        assert "| EMAIL |" not in told


def test_each_reason_is_counted(web: tuple[Path, Path]) -> None:
    run_dir, folder = web
    (folder / "b-copy.txt").write_text(article(0).replace(".", "!"))
    (folder / "b-near.txt").write_text(article(1).replace("bridge", "footbridge"))
    (folder / "b-short.txt").write_text("Nothing here.")
    (folder / "b-french.txt").write_text("Le moulin tourne encore sur la rivière en hiver. " * 12)
    (folder / "b-empty.html").write_text("<html><body></body></html>")
    (folder / "b-refused.html").write_text(f"<meta name=robots content=noai><p>{article(11)}</p>")
    (folder / "b-pii.txt").write_text(article(12) + " Write to desk@example.org for more.")
    gather.run(GatherConfig(files=FilesConfig(folder=str(folder))), run_dir)
    corpus = clean.run(CleanConfig(workers=1), run_dir)
    assert _rejects(corpus) == {
        "file:///b-copy.txt": "exact-duplicate",
        "file:///b-near.txt": "near-duplicate",
        "file:///b-short.txt": "quality-too-few-words",
        "file:///b-french.txt": "language",
        "file:///b-empty.html": "no-text",
        "file:///b-refused.html": "opt-out",
    }
    assert corpus.metrics["kept"] == 11
    assert corpus.metrics["pii"] == {"EMAIL": 1}
    assert corpus.metrics["dropped"]["near-duplicate"] == 1
    files = (path for path in corpus.path.rglob("*") if path.is_file())
    assert not any(b"desk@example.org" in path.read_bytes() for path in files)
    assert "near-duplicate" in (corpus.path / "README.md").read_text("utf-8")


def test_an_empty_corpus_says_what_was_dropped(web: tuple[Path, Path]) -> None:
    config = CleanConfig(workers=1, quality=QualityConfig(min_words=10_000))
    with pytest.raises(DataError, match="10 quality-too-few-words") as caught:
        clean.run(config, web[0])
    assert "\n" not in str(caught.value)


def test_a_missing_or_changed_parent_is_refused(web: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="1-web"):
        clean.run(CleanConfig(), tmp_path / "nowhere")
    archive = web[0] / gather.FOLDER / gather.ARCHIVE
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match=gather.ARCHIVE):
        clean.run(CleanConfig(), web[0])


def test_a_damaged_record_is_a_counted_reason(
    web: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = web[0] / gather.FOLDER / gather.ARCHIVE
    data = bytearray(archive.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 60] = bytes(60)
    archive.write_bytes(data)
    parent = Artifact(
        web[0] / gather.FOLDER, json.loads((web[0] / gather.FOLDER / "manifest.json").read_text())
    )
    monkeypatch.setattr(clean, "load_artifact", lambda *_: parent)
    corpus = clean.run(CleanConfig(workers=1), web[0])
    assert corpus.metrics["dropped"] == {"damaged-record": 1}
    assert corpus.metrics["kept"] == 9


def test_the_heldout_share_is_stable_when_pages_are_added(web: tuple[Path, Path]) -> None:
    run_dir, folder = web
    before = clean.run(CleanConfig(workers=1, heldout=0.4), run_dir).metrics["heldout"]
    (folder / "z.txt").write_text(article(15))
    gather.run(GatherConfig(files=FilesConfig(folder=str(folder))), run_dir)
    after = clean.run(CleanConfig(workers=1, heldout=0.4), run_dir)
    assert after.metrics["heldout"] - before in (0, 1)
    assert 0 < before < 10


def test_another_filter_does_not_gather_again(web: tuple[Path, Path]) -> None:
    run_dir, folder = web
    first = clean.run(CleanConfig(workers=1), run_dir)
    assert not clean.run(CleanConfig(workers=1), run_dir).fresh
    second = clean.run(CleanConfig(workers=1, heldout=0.3), run_dir)
    assert second.fresh
    assert first.manifest["parents"] == second.manifest["parents"]
    assert not gather.run(GatherConfig(files=FilesConfig(folder=str(folder))), run_dir).fresh


def test_rejects_can_be_written_out_with_their_texts(web: tuple[Path, Path]) -> None:
    run_dir, folder = web
    french = "Le moulin tourne encore sur la rivière en hiver, écrivez à moulin@example.org. " * 9
    (folder / "b-french.txt").write_text(french)
    (folder / "b-refused.html").write_text(f"<meta name=robots content=noai><p>{article(11)}</p>")
    gather.run(GatherConfig(files=FilesConfig(folder=str(folder))), run_dir)
    corpus = clean.run(CleanConfig(workers=1, rejects=True), run_dir)
    lines = (corpus.path / "rejects.jsonl").read_text("utf-8").splitlines()
    texts = {record["url"]: record["text"] for record in map(json.loads, lines)}
    assert texts == {
        "file:///b-french.txt": french.strip().replace("moulin@example.org", "[EMAIL]"),
        "file:///b-refused.html": "",
    }
