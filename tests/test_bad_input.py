"""What a user is told when something is wrong: one clear line and exit 2, or a counted reason."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import make_text
from tests.finished_run import (
    CLIENTS,
    ENVIRONMENT,
    Finished,
    folders_option,
    refused,
    start_words,
    write_client,
)

pytestmark = pytest.mark.slow


def test_an_unknown_key_is_one_line_and_nothing_is_done(whole: Finished, tmp_path: Path) -> None:
    nowhere = Finished(tmp_path / "none", whole.private, whole.options, "")
    line = refused("run", *nowhere.arguments("clean.quality.min_wrods=3"))
    assert "clean.quality.min_wrods" in line
    assert "did you mean min_words?" in line
    assert not nowhere.path.exists()


@pytest.mark.parametrize(
    ("stage", "missing"),
    [
        ("clean", "1-web"),
        ("pretrain", "2-corpus"),
        ("federate", "3-base"),
        ("compare", "2-corpus"),
        ("release", "1-web"),
    ],
)
def test_a_missing_parent_is_named(
    whole: Finished, tmp_path: Path, stage: str, missing: str
) -> None:
    nowhere = Finished(tmp_path / "none", whole.private, whole.options, "")
    line = refused(stage, *nowhere.arguments())
    assert f"{missing} is missing" in line
    assert "run the stage that makes it first" in line


def test_an_empty_corpus_says_why(whole: Finished, tmp_path: Path) -> None:
    web = whole.copy(tmp_path / "copy", "gather")
    line = refused(
        "clean",
        *web.arguments("clean.quality.min_words=1000000", "clean.quality.max_words=2000000"),
    )
    assert re.search(r"no text is left of \d+ pages \(dropped: .*\d+ quality-\S+", line)
    assert "[clean]" in line
    assert not (web.path / "2-corpus").exists()


def test_a_client_without_text_is_left_out_and_counted(whole: Finished, tmp_path: Path) -> None:
    part = whole.copy(tmp_path / "copy", "clean", "pretrain")
    empty, blank = tmp_path / "empty", tmp_path / "blank"
    empty.mkdir()
    blank.mkdir()
    (blank / "notes.txt").write_text(" \n")
    good = [whole.private / name for name in CLIENTS[:2]]
    done = part.call("graft", folders_option(*good, empty, blank), "federate.rounds=1")
    assert done.stderr.count("is left out") == 2
    metrics = part.manifest("federate")["metrics"]
    assert metrics["clients"] == 2
    assert metrics["left_out"] == 2
    line = refused("graft", *part.arguments(folders_option(empty, blank)))
    assert "no client has usable text" in line


def test_unreadable_files_of_a_client_are_counted(whole: Finished, tmp_path: Path) -> None:
    part = whole.copy(tmp_path / "copy", "clean", "pretrain")
    torn = tmp_path / "torn"
    write_client(torn, 90)
    (torn / "table.parquet").write_bytes(b"PAR1 and no more")
    (torn / "latin.txt").write_bytes("caf\xe9 ".encode("latin-1") * 50)
    (torn / "cut.jsonl").write_text('{"text": "half')
    odd = json.dumps({"text": f"a line end\u2028within {make_text(91, 300)}"}, ensure_ascii=False)
    (torn / "whole.jsonl").write_text(f"{odd}\n\n{odd}\n", encoding="utf-8")
    (torn / "picture.png").write_bytes(b"\x89PNG")
    done = part.call("graft", folders_option(torn), "federate.rounds=1")
    assert "2 unreadable_file" in done.stderr
    assert "1 bad_line" in done.stderr
    assert "1 other_file_type" in done.stderr
    assert part.manifest("federate")["metrics"]["clients"] == 1


def test_unreadable_public_files_are_counted(whole: Finished, tmp_path: Path) -> None:
    public = tmp_path / "public"
    public.mkdir()
    for seed in range(3):
        (public / f"{seed}.txt").write_text(make_text(seed, 200), encoding="utf-8")
    (public / "torn.jsonl").write_bytes(b'{"text": "half\n\xff\xfe\n')
    (public / "empty.txt").write_bytes(b"")
    run = Finished(tmp_path / "run", whole.private, whole.options, "")
    run.call("gather", "gather.demo.enabled=false", f"gather.files.folder={public}")
    assert run.manifest("gather")["metrics"]["decisions"] == {"kept": 3, "unreadable": 3}


def wait_for(true: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Until `true`; fails if the process ends before that."""
    while not true():
        assert process.poll() is None, "the stage ended before it was looked at"
        time.sleep(0.005)


def test_two_at_once_in_one_folder_are_refused(whole: Finished, tmp_path: Path) -> None:
    run = whole.copy(tmp_path / "copy", "gather")
    words = start_words("clean", *run.arguments())
    with subprocess.Popen(
        words, env=ENVIRONMENT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as first:
        wait_for((run.path / "2-corpus.partial" / ".key").exists, first)
        first.send_signal(signal.SIGSTOP)
        try:
            line = refused("clean", *run.arguments())
        finally:
            first.send_signal(signal.SIGCONT)
        assert "another run works on" in line
        assert str(run.path / "2-corpus") in line
        assert first.wait() == 0
    assert run.digest("clean") == whole.digest("clean")
