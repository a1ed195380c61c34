import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from commonroot.artifact import Artifact, Workspace, build_artifact, load_artifact
from commonroot.config import Section
from commonroot.errors import ArtifactError, BusyError


class Words(Section):
    word: str = "root"


def seal(
    run: Path, word: str = "root", parents: tuple[Artifact, ...] = (), name: str = "1-a"
) -> Artifact:
    def make(work: Workspace) -> dict[str, int]:
        (work.path / "sub").mkdir(exist_ok=True)
        (work.path / "sub" / "words.txt").write_text(word)
        return {"letters": len(word)}

    return build_artifact(run / name, name[2:], list(parents), Words(word=word), make)


def test_equal_inputs_do_no_work_twice(tmp_path: Path) -> None:
    first, second = seal(tmp_path), seal(tmp_path)
    assert (first.fresh, second.fresh) == (True, False)
    assert first.digest == second.digest


def test_changed_config_or_parent_builds_again(tmp_path: Path) -> None:
    parent = seal(tmp_path)
    child = seal(tmp_path, "leaf", (parent,), "2-b")
    assert seal(tmp_path, "twig", (parent,), "2-b").fresh
    changed = seal(tmp_path, "trunk")
    again = seal(tmp_path, "leaf", (changed,), "2-b")
    assert again.fresh
    assert again.digest != child.digest


def test_every_flipped_byte_is_named(tmp_path: Path) -> None:
    sealed = seal(tmp_path)
    for file in [p for p in sealed.path.rglob("*") if p.is_file() and p.name != "run.json"]:
        data = file.read_bytes()
        for place in range(0, len(data), 7):
            file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            with pytest.raises(ArtifactError, match=file.name):
                load_artifact(sealed.path, "a")
        file.write_bytes(data)
    assert load_artifact(sealed.path, "a").digest == sealed.digest


def test_missing_added_and_wrong_kind(tmp_path: Path) -> None:
    sealed = seal(tmp_path)
    with pytest.raises(ArtifactError, match="expected 'b'"):
        load_artifact(sealed.path, "b")
    with pytest.raises(ArtifactError, match="run the stage that makes it"):
        load_artifact(tmp_path / "none", "a")
    (sealed.path / "extra.txt").write_text("x")
    with pytest.raises(ArtifactError, match=r"extra\.txt"):
        load_artifact(sealed.path, "a")


def test_volatile_file_does_not_move_the_digest_but_is_still_checked(tmp_path: Path) -> None:
    def build(run: Path, stamp: str) -> Artifact:
        def make(work: Workspace) -> dict[str, int]:
            (work.path / "log").write_text(stamp)
            work.volatile("log", "0" * 64)
            return {}

        return build_artifact(run / "1-a", "a", [], Words(), make)

    monday, tuesday = build(tmp_path / "x", "monday"), build(tmp_path / "y", "tuesday")
    assert monday.digest == tuesday.digest
    (tuesday.path / "log").write_text("wednesday")
    with pytest.raises(ArtifactError, match="log"):
        load_artifact(tuesday.path, "a")


def test_failed_stage_keeps_the_old_artifact_and_its_partial_work(tmp_path: Path) -> None:
    old = seal(tmp_path)

    def half(work: Workspace) -> dict[str, int]:
        (work.path / "half.txt").write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        build_artifact(tmp_path / "1-a", "a", [], Words(word="new"), half)
    assert load_artifact(tmp_path / "1-a", "a").digest == old.digest
    assert (tmp_path / "1-a.partial" / "half.txt").exists()

    def rest(work: Workspace) -> dict[str, bool]:
        return {"resumed": work.resumed and (work.path / "half.txt").exists()}

    done = build_artifact(tmp_path / "1-a", "a", [], Words(word="new"), rest)
    assert done.metrics["resumed"]


def test_partial_work_of_another_config_is_not_resumed(tmp_path: Path) -> None:
    def half(work: Workspace) -> dict[str, int]:
        (work.path / "half.txt").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        build_artifact(tmp_path / "1-a", "a", [], Words(word="one"), half)
    done = build_artifact(
        tmp_path / "1-a",
        "a",
        [],
        Words(word="two"),
        lambda work: {"files": len(list(work.path.glob("half.txt")))},
    )
    assert done.metrics["files"] == 0


def test_two_at_once_is_refused(tmp_path: Path) -> None:
    def nested(_: Workspace) -> dict[str, int]:
        seal(tmp_path)
        return {}

    with pytest.raises(BusyError, match="another run works on"):
        build_artifact(tmp_path / "1-a", "a", [], Words(), nested)


def _die_between_renames(run: str) -> None:
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        if str(source).endswith(".partial"):
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, target)

    os.rename = rename  # type: ignore[assignment]
    seal(Path(run), "new")


def test_kill_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    seal(tmp_path, "old")
    process = multiprocessing.get_context("spawn").Process(
        target=_die_between_renames, args=(str(tmp_path),)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "1-a").exists()
    assert not seal(tmp_path, "new").fresh
    assert json.loads((tmp_path / "1-a" / "manifest.json").read_text())["config"]["word"] == "new"
