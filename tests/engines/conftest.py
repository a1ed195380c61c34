import json
import shutil
import sys
from collections.abc import Callable
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
