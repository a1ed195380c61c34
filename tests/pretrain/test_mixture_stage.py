"""The stage on several corpora: what is told, resumed, trained on."""

import json
import shutil
from pathlib import Path

import pytest

from commonroot.artifact import Artifact, load_artifact
from commonroot.errors import ArtifactError
from commonroot.progress import MetricsLog
from pretrain import stage
from pretrain.mixture import Part, reopen_mixture
from pretrain.packing import IGNORE
from tests.conftest import build_corpus, tiny_pretrain
from tests.pretrain.two_corpora import make_two, mixed, parts


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_two(tmp_path_factory.mktemp("two"))


@pytest.fixture
def run_dir(two: Path, tmp_path: Path) -> Path:
    """A run with the corpus of `own`, and nothing else done."""
    shutil.copytree(two / "own" / "2-corpus", tmp_path / "own" / "2-corpus")
    return tmp_path / "own"


@pytest.fixture(scope="module")
def base(two: Path) -> Artifact:
    return stage.run(mixed(two), two / "own")


def test_the_manifest_tells_what_each_part_gave(two: Path, base: Artifact) -> None:
    corpora = base.metrics["corpora"]
    assert list(corpora) == ["other", "own"]
    assert [row["share"] for row in corpora.values()] == [0.25, 0.75]
    assert [row["tokens_trained"] for row in corpora.values()] == [12 * 64, 36 * 64]
    other = load_artifact(two / "other" / "2-corpus", "corpus")
    assert corpora["other"]["digest"] == base.manifest["inputs"]["mixture.other"] == other.digest
    assert base.manifest["inputs"]["mixture.own"] == base.manifest["parents"]["corpus"]
    for row in corpora.values():
        assert row["bytes_per_token"] == pytest.approx(row["bytes"] / row["tokens"], abs=1e-3)
        assert 1 < row["bpb"] < 9
    assert str(two) not in (base.path / "manifest.json").read_text("utf-8")
    told = (base.path / "report.html").read_text("utf-8")
    assert "part of the mixture" in told


def test_the_place_of_a_corpus_is_not_part_of_what_is_made(
    two: Path, base: Artifact, tmp_path: Path
) -> None:
    moved = shutil.copytree(two / "other", tmp_path / "moved")
    settings = {"own": Part(weight=3), "other": Part(corpus=str(moved / "2-corpus"))}
    run_dir = shutil.copytree(two / "own", tmp_path / "own", symlinks=True)
    assert not stage.run(tiny_pretrain(mixture=settings), run_dir).fresh
    reopened = reopen_mixture(base, load_artifact(run_dir / "2-corpus", "corpus"))
    assert [portion.share for portion in reopened] == [0.25, 0.75]
    assert (run_dir / "corpora" / "other").resolve() == moved / "2-corpus"
    copied = shutil.copytree(run_dir, tmp_path / "copied")
    assert not stage.run(tiny_pretrain(mixture=settings), copied).fresh
    shutil.rmtree(moved)
    with pytest.raises(ArtifactError, match=r"corpora/other leads nowhere"):
        reopen_mixture(base, load_artifact(run_dir / "2-corpus", "corpus"))


def stopped(section: stage.PretrainConfig, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed after eight steps."""
    real, calls = MetricsLog.write, []

    def stop(self: MetricsLog, **fields: object) -> None:
        calls.append(fields)
        if len(calls) == 8:
            raise KeyboardInterrupt
        real(self, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            stage.run(section, run_dir)
    assert (run_dir / "3-base.partial" / "checkpoints").is_dir()


def test_a_stopped_mixture_resumes_to_the_same_bits(
    two: Path, base: Artifact, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(mixed(two), run_dir, monkeypatch)
    assert stage.run(mixed(two), run_dir).digest == base.digest


def test_other_weights_do_not_resume_what_was_begun(
    two: Path, base: Artifact, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(mixed(two, mixture=parts(two, 1, 1)), run_dir, monkeypatch)
    assert stage.run(mixed(two), run_dir).digest == base.digest
    changed = stage.run(mixed(two, mixture=parts(two, 1, 1)), run_dir)
    assert changed.fresh
    assert changed.digest != base.digest


def test_a_corpus_that_is_read_too_often_is_told(
    two: Path, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.run(mixed(two, mixture=parts(two, 1, 9), tokens=60 * 4 * 64), run_dir)
    lines = [line for line in capsys.readouterr().err.splitlines() if "is read" in line]
    assert len(lines) == 1
    assert "other, 90% of the tokens, is read" in lines[0]


def test_sources_of_one_corpus_are_weighted(two: Path, run_dir: Path) -> None:
    settings = {"b": Part(sources=("b.example",), weight=3), "rest": Part()}
    made = stage.run(mixed(two, mixture=settings), run_dir)
    assert made.metrics["corpora"]["b"]["tokens_trained"] == 36 * 64
    assert list(made.metrics["sources"]) == ["rest: a.example", "b: b.example"]


def test_an_adopted_base_is_trained_on_a_mixture(two: Path, base: Artifact, run_dir: Path) -> None:
    again = mixed(two, base=str(base.path), continue_training=True)
    made = stage.run(again, run_dir)
    assert made.metrics["corpora"]["other"]["tokens_trained"] == 12 * 64
    assert made.metrics["public_bpb"] < made.metrics["public_bpb_at_start"]


def test_no_mixture_is_one_part(tmp_path: Path) -> None:
    build_corpus(tmp_path, range(30))
    made = stage.run(tiny_pretrain(), tmp_path)
    assert list(made.metrics["corpora"]) == ["corpus"]
    assert made.manifest["inputs"] == {}
    assert not (tmp_path / "corpora").exists()
    assert IGNORE < 0 < json.loads(json.dumps(made.metrics))["corpora"]["corpus"]["epochs"]
