"""`verify` finds one flipped byte in any file and names the file."""

import json
import shutil
from pathlib import Path

import pytest

from commonroot.artifact import Artifact, text_sha256
from commonroot.errors import ArtifactError
from commonroot.verify import verify
from tests.released_run import build_run, build_web


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return build_run(tmp_path_factory.mktemp("verified"), left_out="")


@pytest.fixture
def run_dir(release: Artifact, tmp_path: Path) -> Path:
    return shutil.copytree(release.path.parent, tmp_path / "run")


def _sealed_files(folder: Path) -> list[Path]:
    """Every file of the artifacts; run.json is unhashed by design."""
    files = [f for stage in folder.glob("[0-9]-*") for f in stage.rglob("*") if f.is_file()]
    return sorted(file for file in files if file.name != "run.json")


def _flip(file: Path, place: int, bit: int) -> bytes:
    """Flip one bit; returns the bytes as they were."""
    data = file.read_bytes()
    damaged = bytearray(data)
    damaged[place] ^= 1 << bit
    file.write_bytes(damaged)
    return data


def test_an_unbroken_run_verifies_back_to_the_urls(run_dir: Path, release: Artifact) -> None:
    lines = verify(run_dir)
    assert any("30 public documents" in line and "with the corpus" in line for line in lines)
    assert any(
        line.startswith("lineage: digests of web, corpus, base, federated, comparison")
        for line in lines
    )
    assert any("byte for byte those of federated" in line for line in lines)
    assert release.digest in lines[-1]


def test_a_flipped_byte_is_found_in_every_file(run_dir: Path) -> None:
    files = _sealed_files(run_dir)
    assert len(files) > 30
    for file in files:
        data = _flip(file, file.stat().st_size // 2, 0)
        with pytest.raises(ArtifactError) as error:
            verify(run_dir)
        assert str(file) in str(error.value)
        file.write_bytes(data)
    verify(run_dir)


@pytest.mark.parametrize("stage", ["1-web", "5-federated", "7-release"])
def test_no_byte_of_a_manifest_is_unprotected(run_dir: Path, stage: str) -> None:
    """Spacing, sizes and key names too: what the content digest leaves out."""
    artifact = run_dir / stage
    file = artifact / "manifest.json"
    for place in range(0, file.stat().st_size, 7):
        data = _flip(file, place, place % 8)
        with pytest.raises(ArtifactError, match=str(artifact)):
            verify(artifact)
        file.write_bytes(data)


def test_a_manifest_with_other_spacing_is_another_manifest(run_dir: Path) -> None:
    file = run_dir / "1-web" / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\t", 1))
    with pytest.raises(ArtifactError, match=r"1-web/manifest\.json was changed"):
        verify(run_dir)


def test_a_release_verifies_alone_wherever_it_lies(release: Artifact, tmp_path: Path) -> None:
    copy = shutil.copytree(release.path, tmp_path / "elsewhere")
    (copy / "run.json").unlink()
    (copy / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    assert release.digest in verify(copy)[-1]
    for file in sorted(copy.iterdir()):
        if file.name == ".gitattributes":
            continue
        data = _flip(file, file.stat().st_size // 3, 1)
        with pytest.raises(ArtifactError, match=file.name):
            verify(copy)
        file.write_bytes(data)


def test_missing_and_added_files_are_named(run_dir: Path) -> None:
    added = run_dir / "2-corpus" / "data" / "more.parquet"
    added.write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"more\.parquet was added"):
        verify(run_dir)
    added.unlink()
    (run_dir / "3-base" / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"model\.safetensors is gone"):
        verify(run_dir)


def test_a_child_of_another_parent_is_named(run_dir: Path) -> None:
    build_web(run_dir, contact="someone@site.example")
    with pytest.raises(ArtifactError, match=r"2-corpus/manifest\.json.*made from web"):
        verify(run_dir)


def test_a_missing_parent_is_named(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "1-web")
    with pytest.raises(ArtifactError, match="parent of kind 'web' is not there"):
        verify(run_dir)


def _resealed(folder: Path, name: str, text: str) -> None:
    """Replace a file and rewrite the manifest as someone would who wants to hide it."""
    from commonroot.artifact import file_sha256, manifest_digest

    (folder / name).write_text(text, encoding="utf-8")
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    size = (folder / name).stat().st_size
    manifest["files"][name] = {"bytes": size, "sha256": file_sha256(folder / name)}
    manifest["digest"] = manifest_digest(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("lineage.json", '"addresses": 31', '"addresses": 32', "digest of web does not follow"),
        ("lineage.json", '"kind": "corpus"', '"kind": "korpus"', "'corpus' is not there"),
        ("lineage.json", '"copied"', '"copies"', "is no lineage"),
        ("sources.jsonl", "page/07", "page/77", "is not the list"),
        ("README.md", "| shards | `", "| shards | `0", "does not name shards"),
        ("config.json", '"use_cache": true', '"use_cache": false', "is not the file that"),
    ],
)
def test_the_chain_is_recomputed_even_if_the_manifest_was_rewritten(
    run_dir: Path, name: str, old: str, new: str, message: str
) -> None:
    folder = run_dir / "7-release"
    text = (folder / name).read_text("utf-8")
    assert old in text
    _resealed(folder, name, text.replace(old, new))
    with pytest.raises(ArtifactError, match=message) as error:
        verify(folder)
    assert name in str(error.value) or "lineage.json" in str(error.value)


def test_a_rewritten_list_of_sources_does_not_fit_the_corpus(run_dir: Path) -> None:
    folder = run_dir / "7-release"
    text = (folder / "sources.jsonl").read_text("utf-8").replace("page/07", "page/77")
    lineage = json.loads((folder / "lineage.json").read_text("utf-8"))
    lineage["sources"]["sha256"] = text_sha256(text)
    _resealed(folder, "lineage.json", json.dumps(lineage, indent=1, sort_keys=True))
    _resealed(folder, "sources.jsonl", text)
    with pytest.raises(ArtifactError, match=r"sources\.jsonl is not the list that the corpus"):
        verify(folder)


def test_what_is_no_artifact_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="give a run or a release"):
        verify(tmp_path)
    with pytest.raises(ArtifactError, match="give a run or a release"):
        verify(tmp_path / "nowhere")
