"""The release: loads with stock transformers, tells everything public and nothing private."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from commonroot.artifact import Artifact, load_artifact
from commonroot.errors import ArtifactError, FetchError, UsageError
from commonroot.verify import verify
from federate.release.publish import publish
from federate.release.stage import ReleaseConfig, run
from tests.conftest import tiny_pretrain
from tests.released_run import (
    LEFT_OUT,
    MARKER,
    NAMES,
    build_corpus,
    build_federated,
    build_run,
    build_web,
)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return build_run(tmp_path_factory.mktemp("released"))


@pytest.fixture
def run_dir(release: Artifact, tmp_path: Path) -> Path:
    """A copy of the run that a test may change."""
    return shutil.copytree(release.path.parent, tmp_path / "run")


def _published(release: Artifact) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in release.path.iterdir()}


def _card(release: Artifact) -> str:
    return (release.path / "README.md").read_text("utf-8")


def test_the_three_lines_of_the_card_generate_text(
    release: Artifact, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = re.search(r"```python\n(.*?)```", _card(release), re.DOTALL)
    assert code
    assert len(code[1].splitlines()) == 3
    monkeypatch.chdir(release.path)
    exec(code[1], {})
    assert capsys.readouterr().out.startswith("The country is")


def test_weights_are_those_of_the_federated_stage(release: Artifact) -> None:
    federated = release.path.parent / "5-federated"
    assert (release.path / "model.safetensors").read_bytes() == (
        federated / "model.safetensors"
    ).read_bytes()


def test_card_is_complete(release: Artifact) -> None:
    card = _card(release)
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["license"] == "apache-2.0"
    assert header["language"] == ["en", "no"]
    assert (header["library_name"], header["pipeline_tag"]) == ("transformers", "text-generation")
    assert "base_model" not in header
    for title in ("Intended use", "Limitations", "Training data", "Training procedure",
                  "Evaluation", "Privacy", "Compute and environment", "Provenance"):  # fmt: skip
        assert f"## {title}\n" in card
    assert not re.search(r"needed|TODO|\bNone\b|\bnan\b|\{|\}", card.partition("```\n")[2])


def test_card_gives_the_measured_figures(release: Artifact) -> None:
    card = _card(release)
    assert "| 2.111 | 2.222 | 2.333 |" in card
    assert "**federated: the weights published here** | 5.111 | 5.222 | 5.333 |" in card
    assert "57%" in card
    assert "2 weight deltas (fp32," in card  # two rounds of two, one excluded in each
    assert "123,456 bytes" in card
    assert "no differential privacy" in card
    assert "too-short 3" in card
    assert "| https://site.example/licence | 20 |" in card


def test_nothing_private_is_in_any_file(release: Artifact) -> None:
    places = [str(release.path.parent), str(Path.cwd()), os.uname().nodename]
    for name, data in _published(release).items():
        for secret in (MARKER, *NAMES, LEFT_OUT, "letters.jsonl", *places[:2]):
            assert secret.encode() not in data, (name, secret)
        if name.endswith((".safetensors", ".gguf", ".onnx", ".data")) and len(places[2]) < 6:
            continue  # so short a name of a machine stands in random bytes as well
        assert not re.search(rb"(?<!\w)" + re.escape(places[2].encode()) + rb"(?!\w)", data)


def test_clients_are_named_only_on_request(run_dir: Path) -> None:
    named = run(ReleaseConfig(client_names=True), run_dir)
    assert f"Clients: {NAMES[1]}, {NAMES[0]}." in _card(named)


def test_traces_of_the_loader_are_gone(release: Artifact) -> None:
    config = json.loads((release.path / "tokenizer_config.json").read_text("utf-8"))
    assert not {"is_local", "local_files_only", "name_or_path"} & config.keys()


def test_a_contact_address_is_withheld_from_the_lineage(tmp_path: Path) -> None:
    release = build_run(tmp_path, contact="crawler@site.example")
    assert all(b"crawler@" not in data for data in _published(release).values())
    linked = "web, shards linked by digest only (records withheld)"
    assert any(line.endswith(linked) for line in verify(tmp_path))


def test_an_adopted_base_is_named_but_not_its_path(release: Artifact, tmp_path: Path) -> None:
    from pretrain import stage

    build_corpus(tmp_path, build_web(tmp_path))
    stage.run(tiny_pretrain(base=str(release.path)), tmp_path)
    adopting = build_run(tmp_path, release=ReleaseConfig(base_model="someone/earlier"))
    card = _card(adopting)
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == "someone/earlier"
    assert "whose own training data is not known here" in card
    assert all(str(release.path).encode() not in data for data in _published(adopting).values())


def test_same_inputs_do_no_work_and_give_the_same_digest(release: Artifact, run_dir: Path) -> None:
    assert not run(ReleaseConfig(), run_dir).fresh
    shutil.rmtree(run_dir / "7-release")
    again = run(ReleaseConfig(), run_dir)
    assert again.fresh
    assert again.digest == release.digest


def test_what_varies_between_equal_runs_does_not_reach_the_digest(
    release: Artifact, run_dir: Path
) -> None:
    shutil.rmtree(run_dir / "1-web")
    shutil.rmtree(run_dir / "7-release")
    build_web(run_dir, archive=b"fetched another day")
    assert run(ReleaseConfig(), run_dir).digest == release.digest
    verify(run_dir)


def test_without_comparison_the_clients_own_figures_are_given(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "6-comparison")
    card = _card(run(ReleaseConfig(), run_dir))
    assert "**federated: the weights published here** | 2.500 | not measured |" in card
    assert "2.111" not in card


def test_stale_comparison_is_left_out(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, shards = (load_artifact(run_dir / f, f[2:]) for f in ("3-base", "4-shards"))
    build_federated(run_dir, base, shards, seed=1)
    assert "2.111" not in _card(run(ReleaseConfig(), run_dir))
    assert "comparison is left out" in capsys.readouterr().err


def test_stages_that_do_not_fit_are_refused(run_dir: Path) -> None:
    build_web(run_dir, contact="someone@site.example")
    with pytest.raises(ArtifactError, match="2-corpus was made from another web"):
        run(ReleaseConfig(), run_dir)


def test_deployment_without_shards_on_this_side(run_dir: Path) -> None:
    base = load_artifact(run_dir / "3-base", "base")
    shutil.rmtree(run_dir / "4-shards")
    shutil.rmtree(run_dir / "6-comparison")
    build_federated(run_dir, base, None)
    release = run(ReleaseConfig(), run_dir)
    assert "clipped only where a client's owner does so" in _card(release)
    assert any("verified" in line for line in verify(run_dir))


def test_a_description_with_a_local_path_is_refused(run_dir: Path) -> None:
    with pytest.raises(UsageError, match=r"README\.md would publish the local path"):
        run(ReleaseConfig(description=f"See {run_dir}/notes"), run_dir)


def test_publish_lists_without_token_or_network(
    release: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    _forbid_network(monkeypatch)
    lines = publish(release, "someone/model", push=False)
    listed = {line.split()[-1] for line in lines[:-2]}
    assert listed == {p.name for p in release.path.iterdir()} - {"run.json"}
    assert "dry run" in lines[-1]


def test_publish_without_token_or_online_is_one_line(
    release: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    _forbid_network(monkeypatch)
    with pytest.raises(UsageError, match="no token"):
        publish(release, "someone/model", push=True)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "not-a-token")
    with pytest.raises(FetchError, match="HF_HUB_OFFLINE"):
        publish(release, "someone/model", push=True)
    with pytest.raises(UsageError, match="owner/name"):
        publish(release, "only-a-name", push=False)


def test_push_sends_the_listed_files_and_nothing_else(
    release: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    sent: list[str] = []

    def upload_folder(_: HfApi, **what: object) -> object:
        sent.extend(what["allow_patterns"])  # type: ignore[call-overload]
        return type("Commit", (), {"commit_url": "https://hub.example/commit"})

    monkeypatch.setattr("huggingface_hub.get_token", lambda: "not-a-token")
    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: None)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    lines = publish(release, "someone/model", push=True)
    assert set(sent) == {p.name for p in release.path.iterdir()} - {"run.json"}
    assert lines[-1] == "uploaded: https://hub.example/commit"


def test_a_damaged_release_is_not_published(run_dir: Path) -> None:
    release = load_artifact(run_dir / "7-release", "release")
    (release.path / "README.md").write_text("other")
    with pytest.raises(ArtifactError, match=r"README\.md"):
        publish(release, "someone/model", push=False)


def _forbid_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", connect)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
