"""Starts Flower's own commands as processes and leaves none of them behind.

What Flower starts detaches itself, and stays when its starter is gone. So every process
gets a mark in its environment by which it is found again at the end, even of a killed launcher.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from commonroot.errors import EngineError, UsageError

__all__ = ["Flower", "flower", "free_port", "start_superlink", "toml_string"]

MARK = "COMMONROOT_ENGINE"
QUIET = {
    # Flower would otherwise build a fresh environment (with a CUDA torch) for each run.
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Seconds between looks for work; Flower's default of 1 s is felt in every message.
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
}
START_SECONDS = 90


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return False
    return True


class Flower:
    """Flower's commands with a home, a mark and log files of their own."""

    def __init__(self, home: Path, logs: Path, extra: Mapping[str, str]) -> None:
        self.home, self.logs = home, logs
        self.mark = uuid.uuid4().hex
        scripts = str(Path(sys.executable).parent)
        path = os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])
        self.env = {**os.environ, **QUIET, **extra, "PATH": path}
        self.env |= {"FLWR_HOME": str(home), MARK: self.mark, "PYTHONUNBUFFERED": "1"}
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        # Ends the children even if this process is killed: then its pipe to the watchdog closes.
        self.watchdog = subprocess.Popen(
            [sys.executable, "-P", "-m", "federate.engines.launch", self.mark],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def connect(self, address: str, certificate: Path | None) -> None:
        """Write the config that makes `address` (host:port) the connection called `here`."""
        trust = (
            f"root-certificates = {toml_string(certificate)}" if certificate else "insecure = true"
        )
        text = f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "{address}"\n{trust}\n'
        (self.home / "config.toml").write_text(text)

    def start(self, name: str, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Start `command`; what it prints goes to `<logs>/<name>.log`."""
        with open(self.logs / f"{name}.log", "ab") as log:
            child = subprocess.Popen(
                [str(part) for part in command],
                env=self.env,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.children[name] = child
        return child

    def ask(self, *arguments: str | Path) -> Any:
        """Run one `flwr` command and return its JSON. Raises EngineError when it fails."""
        command = ["flwr", *map(str, arguments), "--format", "json"]
        done = subprocess.run(command, env=self.env, cwd=self.home, capture_output=True, text=True)
        text = done.stdout + done.stderr
        with suppress(ValueError):
            answer = json.loads(done.stdout[done.stdout.index("{") :])
            if answer.get("success", True) and done.returncode == 0:
                return answer
            text = str(answer.get("error-message", text))
        raise EngineError(f"`flwr {arguments[0]}` failed: {' '.join(text.split())[-400:]}")

    def wait_for(self, ready: Callable[[], bool], what: str) -> None:
        """Wait until `ready()`; EngineError when a child ends first or START_SECONDS pass."""
        end = time.monotonic() + START_SECONDS
        while not ready():
            self.check()
            if time.monotonic() > end:
                raise EngineError(f"{what} did not start in {START_SECONDS} s: see {self.logs}")
            time.sleep(0.1)

    def check(self) -> None:
        """Raise EngineError if a child has ended."""
        for name, child in self.children.items():
            if child.poll() is not None:
                lines = (self.logs / f"{name}.log").read_text("utf-8", "replace").split("\n")
                last = next((line for line in reversed(lines) if line.strip()), "no output")
                raise EngineError(f"the {name} ended ({last.strip()[:300]}); see {self.logs}")

    def close(self) -> None:
        """End every process that was started here, and what those have started."""
        for child in reversed(self.children.values()):
            child.terminate()
        for child in self.children.values():
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.watchdog.communicate()  # its input ends: it kills what is left


def toml_string(value: object) -> str:
    """`value` as a quoted TOML string."""
    return json.dumps(str(value), ensure_ascii=False)


def _watch(mark: str) -> None:
    """Wait until the input ends, then kill what carries the mark and what that has started.

    Needs /proc; elsewhere Flower's processes notice by themselves that their parent is gone.
    """
    sys.stdin.read()
    wanted = f"{MARK}={mark}".encode()
    marked, parents = set(), {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pid = int(folder.name)
            parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if wanted in (folder / "environ").read_bytes():
                marked.add(pid)
    # Ray's helpers write their title over their environment, and so over the mark.
    while found := {pid for pid in parents if parents[pid] in marked} - marked:
        marked |= found
    for pid in marked:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def flower(home: Path, logs: Path, **extra: str) -> Iterator[Flower]:
    """A Flower whose processes end with the context. `extra` is added to their environment."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    logs.mkdir(parents=True, exist_ok=True)
    tools = Flower(home, logs.resolve(), extra)
    try:
        yield tools
    finally:
        tools.close()


def start_superlink(
    tools: Flower, address: str, flags: Sequence[str | Path], certificate: Path | None
) -> None:
    """Start a SuperLink on `address` (host:port) and wait until it answers."""
    host, _, port = address.rpartition(":")
    if not _is_free(host.strip("[]"), int(port)):
        raise UsageError(f"port {port} is taken: choose another port for the SuperLink")
    command = ["flower-superlink", *flags, "--host", host.strip("[]"), "--port", port]
    tools.start("superlink", command)
    near = f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]") else address
    tools.connect(near, certificate)
    tools.wait_for(lambda: _answers(near, certificate), "the SuperLink")


def _answers(address: str, certificate: Path | None) -> bool:
    import requests

    scheme, trust = ("https", str(certificate)) if certificate else ("http", False)
    try:
        return requests.get(f"{scheme}://{address}/health", timeout=2, verify=trust).ok
    except requests.RequestException:
        return False


if __name__ == "__main__":
    _watch(sys.argv[1])
