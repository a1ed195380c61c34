"""The whole path on the embedded default, measured: `python -m tests.benchmarks.spine --json`.

About half an hour on two cores. Everything runs through the commands that a user has.
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.record import Result

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "commonroot"]
SMOKE = "configs/smoke.toml"
ARMS = ("base", "local_only", "centralised", "federated", "personalised")


def call(*args: str | Path) -> tuple[int, float, str]:
    """Exit code, seconds and everything printed of one commonroot command."""
    started = time.perf_counter()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*PROGRAM, *map(str, args)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, time.perf_counter() - started, done.stdout + done.stderr


def metrics(run: Path, stage: str) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((run / stage / "manifest.json").read_text("utf-8"))
    return dict(manifest["metrics"])


def whole_path(result: Result, run: Path) -> None:
    code, seconds, _ = call("run", "--run", run)
    again, idle, said = call("run", "--run", run)
    _, _, filtered = call(
        "clean",
        "--run",
        shutil.copytree(run, run.with_name("filtered")),
        "--set",
        "clean.quality.min_words=40",
    )
    gathered = call("gather", "--run", run.with_name("filtered"))[2]
    _, _, fewer = call(
        "federate",
        "--run",
        run.with_name("filtered"),
        "--set",
        "federate.rounds=1",
        "--set",
        "federate.personal.steps=1",
    )
    rooted = call("pretrain", "--run", run)[2]
    value = {
        "exit": code,
        "minutes": round(seconds / 60, 2),
        "parameters": metrics(run, "3-base")["parameters"],
        "public_tokens": metrics(run, "3-base")["tokens"],
        "private_tokens": metrics(run, "5-federated")["private_tokens"],
        "second_run_seconds": round(idle, 1),
        "second_run_up_to_date": said.count(": up to date ("),
        "crawled_again_after_filter": "up to date" not in gathered,
        "cleaned_again_after_filter": "clean: done" in filtered,
        "pretrained_again_after_rounds": "up to date" not in rooted,
        "federate_after_rounds": fewer.strip().splitlines()[-1][:120],
    }
    ok = (code, again) == (0, 0) and seconds <= 900 and value["second_run_up_to_date"] == 7
    ok = ok and not value["crawled_again_after_filter"]
    ok = ok and not value["pretrained_again_after_rounds"] and (run / "report.html").is_file()
    result.add("1", value, "exit 0, <= 15 min, second run idle, no needless work", ok, "make run")


def truth(result: Result, run: Path) -> None:
    seen = metrics(run, "2-corpus")["truth"]
    ok = seen["disallowed_fetches"] == 0 and seen["opted_out_in_corpus"] == 0
    result.add(
        "2", seen, "0 disallowed fetches, 0 opted-out pages, the rest printed", ok, "make ingest"
    )


def verification(result: Result, run: Path) -> None:
    code, seconds, _ = call("verify", run)
    tried, named = 0, 0
    sys.path.insert(0, str(ROOT))
    from commonroot.errors import ArtifactError
    from commonroot.verify import verify

    for file in [p for p in run.glob("[0-9]-*/**/*") if p.is_file() and p.name != "run.json"]:
        data = file.read_bytes()
        if not data:
            continue
        place = len(data) // 2
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        tried += 1
        try:
            list(verify(run))
        except ArtifactError as error:
            named += file.name in str(error)
        file.write_bytes(data)
    value = {"exit": code, "seconds": round(seconds, 1), "files_flipped": tried, "named": named}
    result.add(
        "3",
        value,
        "verifies; every flipped file is named",
        code == 0 and tried == named,
        "make verify",
    )


def comparison(result: Result, run: Path) -> None:
    seen = metrics(run, "6-comparison")
    config = json.loads((run / "5-federated" / "manifest.json").read_text("utf-8"))["config"]
    value = {arm: {k: round(v, 4) for k, v in seen[arm].items()} for arm in ARMS}
    value |= {key: seen[key] for key in seen if key not in value}
    ok = (
        seen["share_of_central_gain"] >= 0.55
        and seen["personalised_beats_local"] >= 30
        and seen["clients"] == 43
        and config["cohort"] >= 8
        and config["local"]["steps"] >= 5
        and seen["federated"]["tokens"] <= 1_700_000
    )
    result.add(
        "4",
        value,
        "share of central gain >= 0.55; personalised beats local >= 30 of 43",
        ok,
        "make compare",
    )


def engines(result: Result, folder: Path) -> None:
    """The smoke run's federated stage with every engine, over three clients."""
    only = ["--config", SMOKE, "--set", "shards.most_clients=3"]
    start = folder / "start"
    for stage in ("ingest", "pretrain", "shards"):
        call(stage, "--run", start, *only)
    ends: dict[str, Any] = {}
    for name in ("inprocess", "inprocess-again", "simulation", "deployment"):
        run = shutil.copytree(start, folder / name)
        engine = name.partition("-")[0]
        code, seconds, _ = call(
            "federate", "--run", run, *only, "--set", f"federate.engine={engine}"
        )
        made = run / "5-federated"
        clients = json.loads((made / "clients.json").read_text("utf-8"))
        ends[name] = {
            "exit": code,
            "seconds": round(seconds, 1),
            "bpb": sum(row["bpb"] for row in clients.values()) / len(clients),
            "weights": (made / "model.safetensors").read_bytes(),
        }
    same = ends["inprocess"]["weights"] == ends["inprocess-again"]["weights"]
    apart = max(abs(end["bpb"] - ends["inprocess"]["bpb"]) for end in ends.values())
    crash = call(
        "federate",
        "--run",
        shutil.copytree(start, folder / "crash"),
        *only,
        "--set",
        "federate.engine=simulation",
        "--set",
        "federate.strategy=none",
    )[0]
    value = {name: {k: v for k, v in end.items() if k != "weights"} for name, end in ends.items()}
    value |= {"bit_identical": same, "largest_bpb_difference": apart, "exit_after_crash": crash}
    ok = same and apart <= 1e-3 and crash != 0 and not any(e["exit"] for e in ends.values())
    result.add(
        "5",
        value,
        "bit-identical; engines within 1e-3 bpb; a crash fails",
        ok,
        "make federate SET=federate.engine=deployment CONFIG=configs/smoke.toml",
    )


def tests(result: Result, key: str, goal: str, *what: str) -> None:
    """A line that is asserted by tests: how many passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *what]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-200:]
    value = {
        "outcome": re.sub(r" in .*", "", last),
        "minutes": round((time.perf_counter() - started) / 60, 2),
    }
    result.add(key, value, goal, done.returncode == 0, "python -m pytest " + " ".join(what))


def command_line(result: Result) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    lint = [[".venv/bin/ruff", "check", "."], [".venv/bin/mypy"]]
    clean = [subprocess.run(c, cwd=ROOT, capture_output=True, check=False).returncode for c in lint]
    value = {"help_cpu_seconds": round(cpu, 3), "lint_exit_codes": clean}
    result.add(
        "9",
        value,
        "--help < 0.5 s of CPU, lint clean",
        cpu < 0.5 and not any(clean),
        "commonroot --help; make lint",
    )


def main() -> None:
    """Measure every line, or those named with --only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the default: one JSON object")
    parser.add_argument("--only", nargs="*", default=[], help="numbers of lines")
    parser.add_argument("--run", type=Path, help="a finished demo run for lines 2, 3 and 4")
    given = parser.parse_args()
    only = set(given.only)
    result = Result("spine")
    with tempfile.TemporaryDirectory(prefix="commonroot-bench-") as name:
        folder = Path(name)
        run = given.run or folder / "demo"
        steps = {
            "1": lambda: whole_path(result, run),
            "2": lambda: truth(result, run),
            "3": lambda: verification(result, run),
            "4": lambda: comparison(result, run),
            "5": lambda: engines(result, folder),
            "6": lambda: tests(
                result, "6", "a killed stage ends as an unbroken one", "tests/test_kill.py"
            ),
            "7": lambda: tests(
                result,
                "7",
                "the marker is nowhere outside the silos",
                "tests/test_pipeline.py",
                "-k",
                "marker",
            ),
            "8": lambda: tests(
                result,
                "8",
                "the FAB holds flowerapp/ only; no torch in it",
                "tests/flowerapp",
                "tests/test_tree.py",
                "-k",
                "fab or travels",
            ),
            "9": lambda: command_line(result),
            "10": lambda: tests(
                result,
                "10",
                "one clear line each",
                "tests/test_bad_input.py",
                "tests/commonroot",
            ),
        }
        for key, step in steps.items():
            if not only or key in only:
                print(f"line {key}", file=sys.stderr, flush=True)
                step()
    result.keep()


if __name__ == "__main__":
    main()
