"""Runs the Flower app with Flower's Ray engine, through `flwr run`.

The silos stay in this process, behind their sockets; Ray's actors only pass messages on, so they
need neither torch nor a path. One actor is enough: one silo trains at a time, with all cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from federate.engines.app import ROOT, run_app, stage_app
from federate.engines.launch import flower, free_port, start_superlink
from federate.silo_server import SiloLike, serve, short_folder

__all__ = ["run"]


def run(plan: Path, silos: Mapping[str, SiloLike], logs: Path, app: Path = ROOT) -> None:
    """Run `federate.rounds.run_from_plan(grid, plan)` over one virtual node for each silo.

    `logs` receives what the processes print. `app` is the folder that holds `pyproject.toml` and
    `flowerapp/`. Raises EngineError unless Flower reports the run as completed.
    """
    with (
        short_folder() as folder,
        serve(silos, folder / "s"),
        flower(folder / "home", logs, **_environment(folder)) as tools,
    ):
        # Our own and not the one that `flwr run` would start: that one outlives us.
        start_superlink(tools, f"127.0.0.1:{free_port()}", ["--insecure", "--simulation"], None)
        size = f"num-supernodes={len(silos)} client-resources-num-cpus=1 init-args-num-cpus=1"
        run_app(tools, stage_app(folder / "app", app), plan, size)


def _environment(folder: Path) -> dict[str, str]:
    return {
        "COMMONROOT_SILOS": str(folder / "s"),
        # Ray's logs and sockets go where they are deleted with the rest.
        "RAY_TMPDIR": str(folder / "r"),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
