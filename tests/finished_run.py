"""One finished run through the command, on generated private text, for the tests of the path."""

import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import make_text

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
