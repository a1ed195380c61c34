import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from engine_echo import SECRET, EchoSilo, rounds

from commonroot.errors import EngineError
from federate.engines import deployment, inprocess
from federate.engines.launch import free_port

pytestmark = pytest.mark.usefixtures("no_leftovers")
HERE = Path(__file__).parent


def silo(number: int) -> deployment.SiloCommand:
    def command(folder: Path) -> Sequence[str | Path]:
        return [sys.executable, HERE / "engine_echo.py", str(number), folder]

    return command


@pytest.mark.slow
def test_a_deployment_on_loopback_gives_what_the_process_itself_gives(
    tmp_path: Path, app: Path, make_plan: Callable[..., Path]
) -> None:
    plan = make_plan(count=1, nodes=3, crash=[2])
    deployment.loopback(plan, [silo(n) for n in range(3)], tmp_path / "logs", app)
    result = json.loads((tmp_path / "out.json").read_text())
    here: list[Any] = []
    members = {str(number): EchoSilo(number) for number in range(3)}
    inprocess.run(lambda grid: here.append(rounds(grid, count=1, crash=[2])), members)
    assert result == here[0]
    assert result["weights"] == [0.5] * 5
    logged = "".join(path.read_text() for path in (tmp_path / "logs").rglob("*.log"))
    assert SECRET not in logged


def test_a_silo_that_does_not_start_is_named_at_once(tmp_path: Path) -> None:
    def broken(_: Path) -> Sequence[str | Path]:
        return [sys.executable, "-c", "print('no usable text in this shard')"]

    with pytest.raises(EngineError, match="no usable text in this shard"):
        deployment.client(broken, tmp_path / "state", tmp_path / "ca.pem")


def test_submitting_to_nobody_is_an_engine_error(
    tmp_path: Path, app: Path, make_plan: Callable[..., Path]
) -> None:
    (tmp_path / "ca.pem").touch()
    nowhere = f"127.0.0.1:{free_port()}"
    with pytest.raises(EngineError, match=r"`flwr run` failed: .*(unavailable|ertificate)"):
        deployment.submit(make_plan(), tmp_path / "ca.pem", tmp_path / "logs", nowhere, app)


class Terminal:
    """`make server` or `make client` in a terminal of its own."""

    def __init__(self, code: str) -> None:
        lines = [
            "import sys",
            "from pathlib import Path",
            "from federate.engines import deployment",
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-c", "\n".join([*lines, code])], stderr=subprocess.PIPE, text=True
        )
        self.said = ""
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        for line in self.process.stderr or ():
            self.said += line

    def wait_for(self, words: str) -> None:
        end = time.monotonic() + 60
        while words not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.1)

    def stop(self) -> int:
        # Not SIGINT: a shell's background job, as this test may be one, ignores it.
        self.process.terminate()
        code = self.process.wait(60)
        self.thread.join()
        if self.process.stderr:
            self.process.stderr.close()
        return code


@pytest.mark.slow
def test_three_terminals(tmp_path: Path, app: Path, make_plan: Callable[..., Path]) -> None:
    port, state = free_port(), tmp_path / "deploy"
    server = Terminal(f"deployment.server(Path({str(state)!r}), port={port})")
    try:
        server.wait_for("Stop with Ctrl-C")
        client = Terminal(
            f"deployment.client(lambda folder: [sys.executable, {str(HERE / 'engine_echo.py')!r}, "
            f"'4', folder], Path({str(state / 'node')!r}), Path({str(state / 'ca.pem')!r}), "
            f"'127.0.0.1:{port}')"
        )
        try:
            client.wait_for("Stop with Ctrl-C")
            where = (state / "ca.pem", tmp_path / "logs", f"127.0.0.1:{port}", app)
            deployment.submit(make_plan(count=1, nodes=1), *where)
            result = json.loads((tmp_path / "out.json").read_text())
            assert result["weights"] == [4.0] * 5
            with pytest.raises(EngineError, match="finished:failed: RuntimeError: no valid reply"):
                deployment.submit(make_plan(nodes=1, crash=[4]), *where)
        finally:
            assert client.stop() == 0
    finally:
        assert server.stop() == 0
    assert os.stat(state / "node" / "node.key").st_mode & 0o077 == 0
