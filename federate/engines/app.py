"""Packs and submits the Flower app, and reads how its run really ended.

`flwr run` exits 0 even when the app crashed: only `flwr list` tells.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from commonroot.errors import EngineError, UsageError
from federate.engines.launch import Flower, toml_string

__all__ = ["ROOT", "run_app", "stage_app"]

ROOT = Path(__file__).parents[2]
"""The app folder: `pyproject.toml` and `flowerapp/`."""
CHATTER = re.compile(r"m(INFO|WARNING) |^Using SuperLink|^Successfully installed|^\s*$")
"""Flower's own lines: they go to the log file only."""
RAISED = re.compile(r"[\w.]+(Error|Exception|Exit|Interrupt)(: |$)")


def stage_app(target: Path, source: Path = ROOT) -> Path:
    """Copy what the FAB holds into `target`.

    Flower walks the whole app folder before it picks the few files: from the repository it would
    look at every file of the virtual environment, and refuse deep paths that are none of the app's.
    """
    if not (source / "pyproject.toml").is_file():
        raise UsageError("Flower's engines need a source checkout: no pyproject.toml stands there")
    shutil.copytree(source / "flowerapp", target / "flowerapp", ignore=_only_python)
    shutil.copy(source / "pyproject.toml", target)
    return target


def _only_python(_: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".py")]


def run_app(tools: Flower, app: Path, plan: Path, federation: str = "") -> None:
    """`flwr run`, then wait; EngineError unless the run ends `finished:completed`.

    What the app prints is copied to stderr, and with Flower's own lines to `<logs>/app.log`.
    """
    settings = tools.home / "run.toml"
    settings.write_text(f"plan = {toml_string(plan.resolve())}\n")
    options = ["--federation-config", federation] if federation else []
    answer = tools.ask("run", app, "here", "--run-config", settings, *options)
    run_id = str(answer["run-id"])
    reason = _follow(tools, run_id)
    status = _finished(tools, run_id)
    if status != "finished:completed":
        raise EngineError(f"the Flower run ended {status}: {reason} (see {tools.logs})")


def _follow(tools: Flower, run_id: str) -> str:
    """Copy the app's log until it ends; returns its last line that names an exception."""
    reason = "no reason in its log"
    command = ["flwr", "log", run_id, "here", "--stream"]
    with (
        open(tools.logs / "app.log", "a", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            env=tools.env,
            cwd=tools.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        ) as stream,
    ):
        try:
            for line in stream.stdout or ():
                log.write(line)
                if not CHATTER.search(line):
                    print(line, end="", file=sys.stderr)
                reason = line.strip() if RAISED.match(line) else reason
        except BaseException:
            stream.kill()
            raise
    return reason


def _finished(tools: Flower, run_id: str) -> str:
    # The log can break off before the run is over.
    while True:
        (run,) = tools.ask("list", "here", "--run-id", run_id)["runs"]
        if str(run["status"]).startswith("finished"):
            return str(run["status"])
        tools.check()
        time.sleep(1)
