"""A base of two runs' corpora: compared, released, verified and traced with both."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from commonroot.artifact import Artifact, json_lines
from commonroot.errors import ArtifactError
from commonroot.verify import verify
from federate import estimate
from pretrain import stage
from pretrain.mixture import Part
from pretrain.trace import trace
from tests.conftest import tiny_pretrain
from tests.finished_run import Finished
from tests.released_run import build_corpus, build_run, build_web


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("mixed")
    for name, first in (("own", 0), ("other", 100)):
        build_corpus(folder / name, build_web(folder / name), first)
    mixture = {"own": Part(), "other": Part(corpus=str(folder / "other"), weight=3)}
    stage.run(tiny_pretrain(mixture=mixture), folder / "own")
    return build_run(folder / "own")


@pytest.fixture
def folder(release: Artifact, tmp_path: Path) -> Path:
    """A copy of both runs."""
    copy = shutil.copytree(release.path.parent.parent, tmp_path / "both", symlinks=True)
    place = copy / "own" / "corpora" / "other"
    place.unlink()
    place.symlink_to(copy / "other" / "2-corpus")
    return copy


def test_the_release_lists_the_documents_of_both_corpora(release: Artifact) -> None:
    card = (release.path / "README.md").read_text("utf-8")
    rows = [line for line in card.splitlines() if line.startswith(("| other |", "| own |"))]
    assert rows[0].startswith("| other | 75.0% | 27 |")
    assert yaml.safe_load(card.split("---\n")[1])["language"] == ["en", "no"]
    assert release.metrics["documents"] == 60
    listed = list(json_lines((release.path / "sources-other.jsonl").read_text("utf-8")))
    assert {"https://site.example/page/100", "https://site.example/page/129"} <= {
        line["url"] for line in listed
    }
    assert all(str(release.path.parent.parent) not in path.read_text("utf-8")
               for path in release.path.glob("*.json*"))


def test_a_mixed_release_verifies_alone(release: Artifact, tmp_path: Path) -> None:
    copy = shutil.copytree(release.path, tmp_path / "elsewhere")
    lines = verify(copy)
    assert any(line.startswith("other: sources: 30 public documents") for line in lines)
    for name in ("sources-other.jsonl", "lineage.json"):
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
        with pytest.raises(ArtifactError, match=name):
            verify(copy)
        (copy / name).write_bytes(data)


def test_a_mixed_run_verifies_back_to_both_archives(folder: Path) -> None:
    lines = verify(folder / "own")
    link = folder / "own" / "corpora" / "other"
    assert any(line.startswith(f"{link}: corpus") for line in lines)
    assert any(line.startswith(f"{link}/../1-web: web") for line in lines)
    assert f"sources: the same documents as in {link}" in lines
    for file in ("2-corpus/data/train-00000.parquet", "1-web/fetches.jsonl"):
        path = folder / "other" / file
        data = path.read_bytes()
        path.write_bytes(data + b"x")
        with pytest.raises(ArtifactError, match=Path(file).name):
            verify(folder / "own")
        path.write_bytes(data)


def test_another_corpus_behind_the_link_is_told(folder: Path) -> None:
    link = folder / "own" / "corpora" / "other"
    shutil.rmtree(folder / "other" / "2-corpus")
    with pytest.raises(ArtifactError, match="corpora/other leads nowhere"):
        verify(folder / "own")
    build_corpus(folder / "other", build_web(folder / "other"), 300)
    for check in (lambda: verify(folder / "own"), lambda: list(trace(folder / "own", (0, 9)))):
        with pytest.raises(ArtifactError, match=r"corpora/other.*run"):
            check()
    assert link.exists()


def test_an_archive_that_is_not_there_is_said(folder: Path) -> None:
    shutil.rmtree(folder / "other" / "1-web")
    assert any("its archive is not beside it" in line for line in verify(folder / "own"))


def test_every_token_of_a_mixture_leads_to_its_page(release: Artifact) -> None:
    run_dir = release.path.parent
    rows = list(trace(run_dir, (0, 10**9)))
    assert [row["corpus"] for row in rows] == ["other"] * 27 + ["own"] * 27
    assert rows[0]["url"] == "https://site.example/page/103"
    ends = [0, *(row["tokens"][1] for row in rows)]
    assert [row["tokens"][0] for row in rows] == ends[:-1]
    base = json.loads((run_dir / "3-base" / "manifest.json").read_text("utf-8"))
    assert ends[-1] == base["metrics"]["corpus_tokens"]
    border = base["metrics"]["corpora"]["other"]["tokens"]
    assert [row["corpus"] for row in trace(run_dir, (border - 1, border + 1))] == ["other", "own"]


def test_the_record_of_another_run_is_read(whole: Finished, tmp_path: Path) -> None:
    build_corpus(tmp_path, build_web(tmp_path))
    mixture = {"own": Part(), "web": Part(corpus=str(whole.path))}
    stage.run(tiny_pretrain(mixture=mixture), tmp_path)
    row = [row for row in trace(tmp_path, (0, 10**9)) if row["corpus"] == "web"][3]
    assert row["sha256_holds"]
    assert (row["record"]["found"], row["record"]["status"]) == (True, 200)
    assert (tmp_path / row["record"]["file"]).samefile(whole.path / "1-web" / "pages.warc.gz")


def test_the_plan_states_the_mixture(release: Artifact) -> None:
    run_dir = release.path.parent
    mixture = {"own": Part(), "other": Part(corpus=str(run_dir.parent / "other"), weight=3)}
    section = tiny_pretrain(mixture=mixture, tokens=400_000)
    corpora = estimate._corpora(section, run_dir)
    first, second = estimate._mixture_lines(section, corpora)
    assert first.startswith("mixture: other: 75.0% of the tokens (300,000), out of 0.0 MB: read")
    assert first.endswith("more often than pays")
    assert second.startswith("mixture: own: 25.0% of the tokens (100,000)")
    before = estimate._corpora(section, run_dir.parent / "none")
    assert "(assumed: none yet)" in estimate._mixture_lines(section, before)[0]
