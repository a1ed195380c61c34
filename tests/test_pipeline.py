"""The whole path through the command, as a user sees it: what is there, what is not, what is said.

One run on generated private text serves all tests here and in test_kill; tests that change
something work on a copy of it.
"""

import functools
import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

from commonroot.artifact import load_artifact
from federate.ledger import Ledger
from federate.private_text import read_folder, split_pieces
from tests.conftest import make_text

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parent.parent / "configs" / "smoke.toml"
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
MARKER = "qzx7marker7xzq"
CLIENTS = ("ward-seven", "north-clinic", "old-archive", "tax-office")
PIECE = 600
STAGES = {
    "gather": "1-web",
    "clean": "2-corpus",
    "pretrain": "3-base",
    "shards": "4-shards",
    "federate": "5-federated",
    "compare": "6-comparison",
    "release": "7-release",
}
SMALL = {
    "gather.demo.pages": 60,
    "pretrain.tokens": 20_480,
    "pretrain.checkpoint_every": 5,
    "pretrain.compute.threads": 1,
    "federate.compute.threads": 1,
    "federate.local.steps": 3,
    "federate.personal.steps": 2,
    "federate.silo.piece_chars": PIECE,
    "federate.test_blocks": 2,
    "federate.evaluate_blocks": 1,
    "shards.demo": "false",
}


@dataclass(frozen=True)
class Finished:
    """A run folder, the command's options that made it, and what they printed."""

    path: Path
    private: Path
    options: tuple[str, ...]
    said: str

    def copy(self, path: Path, *stages: str) -> "Finished":
        """A copy of the artifacts of `stages` (all, if none) and of the silos."""
        path.mkdir()
        for stage in stages or STAGES:
            shutil.copytree(self.path / STAGES[stage], path / STAGES[stage])
        if not stages or "federate" in stages:
            shutil.copytree(self.path / "silos", path / "silos")
        return Finished(path, self.private, self.options, self.said)

    def call(self, command: str, *changes: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a stage (or `run`) with this run's options and `changes` (table.key=value)."""
        return call(command, *self.arguments(*changes), code=code)

    def arguments(self, *changes: str) -> list[str]:
        sets = [word for change in changes for word in ("--set", change)]
        return [*self.options, "--run", str(self.path), *sets]

    def digest(self, stage: str) -> str:
        return str(self.manifest(stage)["digest"])

    def manifest(self, stage: str) -> dict:  # type: ignore[type-arg]
        text = (self.path / STAGES[stage] / "manifest.json").read_text("utf-8")
        return dict(json.loads(text))


def call(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command; an exit other than `code`, or a traceback, fails the test."""
    done = subprocess.run(start_words(*words), env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def start_words(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "commonroot", *map(str, words)]


def refused(*words: str | Path) -> str:
    """Run the command that must end with exit 2, nothing on stdout and one line as the last."""
    done = call(*words, code=2)
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("commonroot: ")
    return last


def write_client(folder: Path, seed: int) -> None:
    """Two files of generated text with the marker every few words, so that no piece is without."""
    folder.mkdir(parents=True)
    words = make_text(seed, 2400).split()
    words = [MARKER if n % 20 == 0 or n % 300 == 299 else word for n, word in enumerate(words)]
    (folder / "notes.txt").write_text(" ".join(words[:1200]), encoding="utf-8")
    records = [{"text": " ".join(words[start : start + 300])} for start in range(1200, 2400, 300)]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "records.jsonl").write_text(lines, encoding="utf-8")


def folders_option(*folders: Path) -> str:
    return f"shards.folders={json.dumps([str(folder) for folder in folders])}"


@functools.cache
def finished_run(root: Path) -> Finished:
    """The one run of the session, made by the first test that asks."""
    private = root / "held-by-owners"
    for seed, name in enumerate(CLIENTS, start=70):
        write_client(private / name, seed)
    changes = [f"{key}={value}" for key, value in SMALL.items()]
    changes.append(folders_option(*(private / name for name in CLIENTS)))
    options = ["--config", str(CONFIG)]
    for change in changes:
        options += ["--set", change]
    run = Finished(root / "whole", private, tuple(options), "")
    done = run.call("run")
    return Finished(run.path, private, run.options, done.stdout + done.stderr)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished_run(tmp_path_factory.getbasetemp() / "pipeline")


@pytest.fixture
def copied(whole: Finished, tmp_path: Path) -> Finished:
    return whole.copy(tmp_path / "copy")


def up_to_date(said: str) -> list[str]:
    return re.findall(r"^(\w+): up to date", said, re.MULTILINE)


def worked(said: str) -> list[str]:
    return re.findall(r"^(\w+): done", said, re.MULTILINE)


def test_every_stage_leaves_its_artifact_and_says_so(whole: Finished) -> None:
    assert worked(whole.said) == list(STAGES)
    for folder in STAGES.values():
        assert load_artifact(whole.path / folder, folder[2:]).digest[:12] in whole.said
    assert not list(whole.path.glob("*.partial"))
    assert f"report: {whole.path / 'report.html'}" in whole.said
    metrics = whole.manifest("compare")["metrics"]
    for arm in ("base", "local_only", "centralised", "federated", "personalised"):
        assert all(metrics[arm][f"{part}_bpb"] > 0 for part in ("own", "union", "public"))
    assert metrics["federated"]["union_bpb"] < metrics["base"]["union_bpb"]
    assert whole.manifest("federate")["metrics"]["clients"] == len(CLIENTS)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        wanted = ("src", "href", "xlink:href", "srcset", "data", "poster")
        self.loads += [value or "" for name, value in attrs if name in wanted]


def test_the_report_is_one_file_with_the_verdict_first(whole: Finished) -> None:
    page = (whole.path / "report.html").read_text("utf-8")
    tags = _Tags()
    tags.feed(page)
    assert [value for value in tags.loads if not value.startswith("#")] == []
    assert not {"script", "link", "iframe", "object"} & set(tags.names)
    assert not re.search(r"@import|url\(\s*['\"]?\s*(https?:)?//", page)
    verdict = (whole.path / "6-comparison" / "verdict.html").read_text("utf-8")
    assert page.index(verdict) < page.index("<h2")
    for folder in STAGES.values():
        fragment = whole.path / folder / "report.html"
        assert fragment.read_text("utf-8") in page
    assert page.count("<svg") >= 3


def test_verify_checks_the_chain(whole: Finished) -> None:
    said = call("verify", whole.path).stdout
    assert whole.digest("release") in said.splitlines()[-1]


def test_a_second_run_does_no_work_and_says_so(whole: Finished) -> None:
    before = _stamps(whole.path)
    done = whole.call("run")
    assert up_to_date(done.stderr) == list(STAGES)
    assert worked(done.stderr) == []
    assert done.stdout.count("up to date, no work") == len(STAGES)
    assert _stamps(whole.path) == before
    told = json.loads(call("run", *whole.arguments(), "--json").stdout)
    assert [made["fresh"] for made in told["artifacts"].values()] == [False] * len(STAGES)
    assert told["artifacts"]["release"]["digest"] == whole.digest("release")


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Time of change and inode of every file but the locks."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


def test_a_changed_filter_does_not_crawl_again(copied: Finished) -> None:
    log = (copied.path / "1-web" / "access-log.jsonl").read_bytes()
    before = copied.manifest("clean")
    said = copied.call("ingest", "clean.quality.min_words=120").stderr
    assert up_to_date(said) == ["gather"]
    assert worked(said) == ["clean"]
    assert (copied.path / "1-web" / "access-log.jsonl").read_bytes() == log
    after = copied.manifest("clean")
    assert after["metrics"]["kept"] < before["metrics"]["kept"]
    assert after["parents"] == before["parents"]


def test_changed_rounds_do_not_pretrain_again(whole: Finished, copied: Finished) -> None:
    said = copied.call("run", "federate.rounds=1").stderr
    assert up_to_date(said) == ["gather", "clean", "pretrain", "shards"]
    assert worked(said) == ["federate", "compare", "release"]
    for stage in ("gather", "clean", "pretrain", "shards"):
        assert copied.digest(stage) == whole.digest(stage)
    for stage in ("federate", "compare", "release"):
        assert copied.digest(stage) != whole.digest(stage)
    assert copied.manifest("federate")["metrics"]["rounds"] == 1
    assert copied.digest("release") in call("verify", copied.path).stdout


def _contents(path: Path) -> Iterator[bytes]:
    """A file's bytes, and what they unpack to."""
    data = path.read_bytes()
    yield data
    if path.suffix == ".gz":
        yield gzip.decompress(data)
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        yield repr(pq.read_table(path).to_pylist()).encode()


def _holding(folder: Path, needle: str, outside: str = "") -> list[str]:
    """Files below `folder` that hold `needle`, those below `folder`/`outside` left out."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder)
        if name.parts[0] != outside and any(needle.encode() in c for c in _contents(path)):
            found.append(str(name))
    return found


def test_the_marker_of_the_private_text_is_nowhere_outside(whole: Finished) -> None:
    for name in CLIENTS:
        split = split_pieces(read_folder(whole.private / name)[0], PIECE)
        for side in (split.train, split.validation, split.test):
            assert side
            assert all(MARKER in piece for piece in side)
    assert _holding(whole.path, MARKER, outside="silos") == []
    assert MARKER not in whole.said
    ledgers = sorted(whole.path.glob("silos/*/ledger.jsonl"))
    assert len(ledgers) == len(CLIENTS)
    for ledger in ledgers:
        assert {entry["kind"] for entry in Ledger(ledger).entries()} == {
            "query",
            "train",
            "evaluate",
        }
        assert MARKER not in ledger.read_text("utf-8")


def test_the_search_for_the_marker_can_find_it(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": [f"a {MARKER}"]}), tmp_path / "a.parquet", compression="zstd")
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"x" * 99) + gzip.compress(MARKER.encode() * 9))
    (tmp_path / "c.bin").write_bytes(b"\0" + MARKER.encode())
    (tmp_path / "silos").mkdir()
    (tmp_path / "silos" / "d.txt").write_text(MARKER)
    assert _holding(tmp_path, MARKER, outside="silos") == ["a.parquet", "b.gz", "c.bin"]


def test_no_client_is_named_in_the_release_or_the_report(whole: Finished) -> None:
    for secret in (*CLIENTS, whole.private.name):
        assert _holding(whole.path / "7-release", secret) == []
        assert secret not in (whole.path / "report.html").read_text("utf-8")
    for number in range(len(CLIENTS)):
        assert _holding(whole.path / "7-release", f"client-{number:02d}") == []


DAMAGED = {
    "gather": ("pages.warc.gz", "clean"),
    "clean": ("data/train-00000.parquet", "pretrain"),
    "pretrain": ("model.safetensors", "federate"),
    "shards": ("shards.json", "federate"),
    "federate": ("model.safetensors", "compare"),
    "compare": ("per_client.json", "release"),
    "release": ("tokenizer.json", "publish"),
}


def test_one_flipped_byte_is_named_by_verify_and_by_the_next_stage(copied: Finished) -> None:
    for stage, (name, follower) in DAMAGED.items():
        file = copied.path / STAGES[stage] / name
        whole_bytes = file.read_bytes()
        middle = len(whole_bytes) // 2
        flipped = bytes([whole_bytes[middle] ^ 1])
        file.write_bytes(whole_bytes[:middle] + flipped + whole_bytes[middle + 1 :])
        assert str(file) in refused("verify", copied.path)
        after = (
            ["--repo", "someone/model", "--run", str(copied.path)]
            if follower == "publish"
            else copied.arguments()
        )
        assert str(file) in refused(follower, *after)
        file.write_bytes(whole_bytes)
    call("verify", copied.path)


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
    assert "3 unreadable_file" in done.stderr
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


def test_the_release_loads_offline_with_stock_transformers(
    whole: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def no_network(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    folder = shutil.copytree(whole.path / "7-release", tmp_path / "elsewhere")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer("The country is", return_tensors="pt")
    torch.manual_seed(0)
    out = model.generate(**prompt, max_new_tokens=8, min_new_tokens=8)
    assert out.shape[1] == prompt["input_ids"].shape[1] + 8
    assert tokenizer.decode(out[0]).startswith("The country is")
    card = (folder / "README.md").read_text("utf-8")
    assert "More information needed" not in card
    assert str(whole.path) not in card


def test_generate_continues_the_prompt(whole: Finished) -> None:
    words = ("generate", "The country is", "--run", whole.path, "--tokens", "20")
    said = call(*words).stdout
    assert said.startswith("The country is")
    assert len(said) > len("The country is") + 10
    assert call(*words, "--seed", "1").stdout != said


def test_publish_lists_what_would_go(whole: Finished) -> None:
    said = call("publish", "--repo", "someone/model", "--run", whole.path).stdout
    for name in ("model.safetensors", "tokenizer.json", "README.md", "lineage.json"):
        assert name in said
    assert "dry run" in said


def test_an_existing_checkpoint_is_adopted(whole: Finished, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    for file in (whole.path / "3-base").iterdir():
        if "config" in file.name or file.name in ("model.safetensors", "tokenizer.json"):
            shutil.copy(file, given)
    run = whole.copy(tmp_path / "copy", "gather", "clean", "shards")
    adopt = f"pretrain.base={given}"
    done = run.call("pretrain", adopt)
    assert "steps" not in done.stderr
    metrics = run.manifest("pretrain")["metrics"]
    assert metrics["provenance"] == "adopted: unknown"
    assert metrics["public_bpb"] == whole.manifest("pretrain")["metrics"]["public_bpb"]
    weights = (run.path / "3-base" / "model.safetensors").read_bytes()
    assert weights == (given / "model.safetensors").read_bytes()
    run.call("federate", adopt)
    assert run.manifest("federate")["metrics"]["clients"] == len(CLIENTS)
    run.call("release", adopt)
    release = run.path / "7-release"
    assert "own training data is not known" in (release / "README.md").read_text("utf-8")
    assert _holding(release, str(given)) == []
    line = refused("pretrain", *run.arguments(f"pretrain.base={tmp_path / 'none'}"))
    assert str(tmp_path / "none") in line
