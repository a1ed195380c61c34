import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commonroot.errors import EngineError, UsageError
from federate.engines.launch import flower, free_port, start_superlink, toml_string

# Starts a process that starts another one, which detaches itself.
DETACHING = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                         start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pids: list[int], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(alive, pids))


def started(log: Path) -> int:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if log.exists() and log.read_text().strip():
            return int(log.read_text())
        time.sleep(0.05)
    raise AssertionError("the child did not start")


def test_nothing_outlives_the_context(tmp_path: Path) -> None:
    with flower(tmp_path / "home", tmp_path / "logs") as tools:
        child = tools.start("child", [sys.executable, "-c", DETACHING])
        pids = [child.pid, started(tmp_path / "logs" / "child.log")]
        assert all(map(alive, pids))
    assert gone(pids)


def test_nothing_outlives_a_killed_launcher(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from federate.engines.launch import flower
with flower(Path({str(tmp_path)!r}), Path({str(tmp_path)!r})) as tools:
    tools.start("child", [sys.executable, "-c", {DETACHING!r}])
    time.sleep(600)
"""
    launcher = subprocess.Popen([sys.executable, "-c", code])
    pid = started(tmp_path / "child.log")
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    assert gone([pid])


def test_a_child_that_ends_is_reported_with_its_last_line(tmp_path: Path) -> None:
    with flower(tmp_path / "home", tmp_path / "logs") as tools:
        tools.start(
            "silo", [sys.executable, "-c", "print('started'); print('no text in the shard')"]
        )
        with pytest.raises(EngineError, match=r"the silo ended \(no text in the shard\)"):
            tools.wait_for(lambda: False, "the silo")


def test_a_taken_port_is_a_usage_error(tmp_path: Path) -> None:
    with socket.socket() as taken, flower(tmp_path / "home", tmp_path / "logs") as tools:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} is taken"):
            start_superlink(tools, f"127.0.0.1:{port}", [], None)
        assert not tools.children


def test_children_do_not_install_or_call_home(tmp_path: Path) -> None:
    with flower(tmp_path / "home", tmp_path / "logs", EXTRA="1") as tools:
        assert tools.env["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
        assert tools.env["FLWR_TELEMETRY_ENABLED"] == "0"
        assert tools.env["FLWR_HOME"] == str(tmp_path / "home")
        assert tools.env["EXTRA"] == "1"


def test_toml_strings_survive_odd_paths() -> None:
    import tomllib

    for value in ("/a b/ü", 'quote"d', "back\\slash"):
        assert tomllib.loads(f"x = {toml_string(value)}") == {"x": value}


def test_free_ports_can_be_bound() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", free_port()))
