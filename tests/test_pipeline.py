"""The whole path through the command, as a user sees it: what is there, and what is nowhere."""

import gzip
import itertools
import json
import re
import shutil
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from commonroot.artifact import load_artifact
from federate.ledger import Ledger
from federate.private_text import read_folder, split_pieces
from tests.finished_run import (
    CLIENTS,
    MARKER,
    PIECE,
    STAGES,
    Finished,
    call,
    refused,
)

pytestmark = pytest.mark.slow


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


def test_any_token_of_the_corpus_is_traced_to_its_page(whole: Finished) -> None:
    rows = traced(whole, "--tokens", "5000:7000")
    assert rows[0]["tokens"][0] <= 5000 < rows[0]["tokens"][1]
    assert rows[-1]["tokens"][0] < 7000 <= rows[-1]["tokens"][1]
    for row, later in itertools.pairwise(rows):
        assert row["tokens"][1] == later["tokens"][0]
    for row in rows:
        assert row["sha256_holds"]
        record = row["record"]
        assert (record["found"], record["status"]) == (True, 200)
        assert ["Content-Type", "text/html; charset=utf-8"] in record["headers"]
        with open(whole.path / record["file"], "rb") as file:
            file.seek(record["offset"])
            with gzip.open(file) as unpacked:
                assert row["url"].encode() in unpacked.read(2000)
    (alone,) = traced(whole, "--url", rows[0]["url"])
    assert alone == rows[0]
    with pytest.raises(AssertionError):
        traced(whole, "--split", "heldout", "--url", rows[0]["url"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tokens", "9:3"), "write it as first:last"),
        (("--tokens", "900000000:900000001"), r"it has [\d,]+ tokens"),
        (("--split", "middle", "--words", "the"), "train or heldout"),
        ((), "say what to trace"),
    ],
)
def test_what_cannot_be_traced_is_one_line(
    whole: Finished, options: tuple[str, ...], words: str
) -> None:
    done = refused("trace", "--run", whole.path, *options)
    assert re.search(words, done)


def traced(whole: Finished, *options: str) -> list[dict[str, Any]]:
    said = call("trace", "--run", whole.path, *options).stdout
    return [json.loads(line) for line in said.splitlines()]


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
