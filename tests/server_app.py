"""The real Flower app with a server that runs the rounds of a test or a benchmark."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from federate.engines.app import stage_app

__all__ = ["write_app", "write_plan"]

SERVER = """
import importlib, json, sys
from pathlib import Path
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    plan = json.loads(Path(context.run_config["plan"]).read_text())
    sys.path.insert(0, plan["path"])
    rounds = getattr(importlib.import_module(plan["module"]), plan["rounds"])
    Path(plan["out"]).write_text(json.dumps(rounds(grid, **plan["arguments"])))
"""


def write_app(folder: Path) -> Path:
    """The app folder, with that server in place of the product's."""
    stage_app(folder)
    (folder / "flowerapp" / "server.py").write_text(SERVER)
    return folder


def write_plan(folder: Path, rounds: Callable[..., Any], /, **arguments: Any) -> Path:
    """A plan for that server: `rounds(grid, **arguments)`, its result in `folder`/out.json."""
    module = sys.modules[rounds.__module__]
    top = Path(str(module.__file__)).parents[module.__name__.count(".")]
    plan = {
        "path": str(top),
        "module": module.__name__,
        "rounds": rounds.__name__,
        "out": str(folder.resolve() / "out.json"),
        "arguments": arguments,
    }
    path = folder / "plan.json"
    path.write_text(json.dumps(plan))
    return path
