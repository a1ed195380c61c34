import json
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_echo import SECRET, EchoSilo, rounds

from commonroot.errors import EngineError
from federate.engines import inprocess, simulation

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_leftovers")]


def test_ray_gives_what_the_process_itself_gives(
    tmp_path: Path, app: Path, make_plan: Callable[..., Path]
) -> None:
    silos = {f"silo {number}": EchoSilo(number) for number in range(3)}
    plan = make_plan(count=2, nodes=3, refuse=[0], crash=[1])
    simulation.run(plan, silos, tmp_path / "logs", app)
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["clients"] == ["client-0", "client-1", "client-2"]
    here = []
    inprocess.run(lambda grid: here.append(rounds(grid, count=2, refuse=[0], crash=[1])), silos)
    assert result["weights"] == here[0]["weights"] == [4.0] * 5
    assert sorted(result["refused"]) == sorted(here[0]["refused"])
    logged = "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
    assert SECRET not in logged


def test_a_crash_inside_the_app_is_an_engine_error(
    tmp_path: Path, app: Path, make_plan: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    silos = {"a": EchoSilo(0), "b": EchoSilo(1)}
    with pytest.raises(EngineError, match="finished:failed: RuntimeError: no valid reply"):
        simulation.run(make_plan(nodes=2, crash=[0, 1]), silos, tmp_path / "logs", app)
    assert "no valid reply" in capfd.readouterr().err  # the app's log reaches the terminal
    assert not (tmp_path / "out.json").exists()


def test_an_app_that_cannot_be_loaded_is_an_engine_error(
    tmp_path: Path, app: Path, make_plan: Callable[..., Path]
) -> None:
    (app / "flowerapp" / "server.py").write_text("import no_such_module\n")
    with pytest.raises(EngineError, match=r"`flwr run` failed: .*flowerapp.server"):
        simulation.run(make_plan(), {"a": EchoSilo(0)}, tmp_path / "logs", app)
