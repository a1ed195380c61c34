import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))  # for engine_echo, which child processes import too

SERVER = """
import json, sys
from pathlib import Path
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    plan = json.loads(Path(context.run_config["plan"]).read_text())
    sys.path.insert(0, plan["helpers"])
    from engine_echo import rounds
    Path(plan["out"]).write_text(json.dumps(rounds(grid, **plan["arguments"])))
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The real app folder with a ServerApp that runs the rounds of `engine_echo`."""
    folder = tmp_path / "app"
    shutil.copytree(ROOT / "flowerapp", folder / "flowerapp")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "flowerapp" / "server.py").write_text(SERVER)
    return folder


@pytest.fixture
def make_plan(tmp_path: Path) -> Callable[..., Path]:
    """Writes a plan for that ServerApp; its result lands in out.json beside it."""

    def make(**arguments: Any) -> Path:
        plan = tmp_path / "plan.json"
        out = str(tmp_path / "out.json")
        plan.write_text(json.dumps({"helpers": str(HERE), "out": out, "arguments": arguments}))
        return plan

    return make


@pytest.fixture
def no_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails if a process or a file of an engine is there after the test."""
    assert tmp_path.exists()  # made before temporary files move
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as place:
        # Engines tell their processes of folders in here.
        monkeypatch.setattr("tempfile.tempdir", place)
        yield
        end = time.monotonic() + 5
        while _told_of(place) and time.monotonic() < end:
            time.sleep(0.1)
        assert _told_of(place) == []
        assert list(Path(place).iterdir()) == []


def _told_of(place: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            if place.encode() in told:
                found.append(process.name)
    return found
