"""Runs the Flower app as a deployment: a SuperLink and SuperNodes over TLS with node keys.

Beside each SuperNode runs a silo process of ours that owns the shard. The SuperNode starts code
that comes over the network; all it is told about the data is the silo's socket.

Whoever reaches the SuperLink's port and has `ca.pem` can submit code to every node and register
node keys: it listens on loopback unless told otherwise. Put a VPN or a proxy in front of it.
"""

from __future__ import annotations

import ipaddress
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from commonroot.errors import EngineError
from federate.engines.app import ROOT, run_app, stage_app
from federate.engines.keys import make_node_key, make_server_keys
from federate.engines.launch import Flower, flower, free_port, start_superlink
from federate.silo_server import short_folder, socket_of

__all__ = ["PORT", "SiloCommand", "client", "loopback", "register", "server", "submit"]

PORT = 8443
"""The SuperLink's port unless told otherwise."""

SiloCommand = Callable[[Path], Sequence[str | Path]]
"""Folder -> command of a process that serves one silo at `socket_of(folder, 0)`."""


def server(
    state: Path, host: str = "127.0.0.1", port: int = PORT, names: Sequence[str] = ()
) -> None:
    """Run a SuperLink in the foreground until Ctrl-C or SIGTERM; keys and logs live in `state`.

    `names` are the host names and addresses by which nodes will call it. Registered nodes survive
    a restart. Raises EngineError when the SuperLink ends by itself.
    """
    state = state.resolve()
    make_server_keys(state, names)
    with _stoppable(), flower(state / "home", state / "logs") as tools:
        flags = [*_tls(state), "--database", state / "superlink.db"]
        start_superlink(tools, f"{host}:{port}", flags, state / "ca.pem")
        _say(f"SuperLink on {host}:{port}; nodes need {state / 'ca.pem'}. Stop with Ctrl-C.")
        _stay(tools)


def client(silo: SiloCommand, state: Path, ca: Path, superlink: str = f"127.0.0.1:{PORT}") -> None:
    """Run one silo and its SuperNode in the foreground until Ctrl-C or SIGTERM.

    `state` keeps the node's key pair; `ca` is the server's `ca.pem`. With a SuperLink on loopback
    the key is registered here; elsewhere its operator calls `register` with `node.pub`.
    """
    state, ca = state.resolve(), ca.resolve()
    with _stoppable(), short_folder() as folder, flower(state / "home", state / "logs") as tools:
        tools.connect(superlink, ca)
        _start_silo(tools, silo, folder)
        _, public = make_node_key(state)
        if _is_loopback(superlink):
            _register(tools, public)
        _start_supernode(tools, folder, state, ca, superlink)
        _say(f"SuperNode {state.name} calls {superlink}, its key is {public}. Stop with Ctrl-C.")
        _stay(tools)


def register(public: Path, ca: Path, superlink: str = f"127.0.0.1:{PORT}") -> None:
    """Admit the node with this public key file (once for each node)."""
    with short_folder() as folder, flower(folder / "home", folder / "logs") as tools:
        tools.connect(superlink, ca.resolve())
        _register(tools, public.resolve())


def submit(
    plan: Path, ca: Path, logs: Path, superlink: str = f"127.0.0.1:{PORT}", app: Path = ROOT
) -> None:
    """Run the app on a SuperLink that is up; `plan` is a path on the SuperLink's machine.

    Raises EngineError unless the run ends `finished:completed`.
    """
    with short_folder() as folder, flower(folder / "home", logs) as tools:
        tools.connect(superlink, ca.resolve())
        run_app(tools, stage_app(folder / "app", app), plan)


def loopback(plan: Path, silos: Sequence[SiloCommand], logs: Path, app: Path = ROOT) -> None:
    """A whole deployment on this machine for one run: SuperLink, silos, nodes, submit, teardown.

    Raises EngineError unless the run ends `finished:completed`.
    """
    with short_folder() as folder, ExitStack() as stack:
        keys, port = folder / "keys", free_port()
        make_server_keys(keys)
        tools = stack.enter_context(flower(folder / "home", logs))
        start_superlink(tools, f"127.0.0.1:{port}", _tls(keys), keys / "ca.pem")
        nodes = []
        for index, silo in enumerate(silos):
            home = folder / str(index)
            node = stack.enter_context(flower(home / "home", logs / f"node-{index}"))
            _start_silo(node, silo, home, wait=False)
            _register(tools, make_node_key(home)[1])
            nodes.append((node, home))
        for node, home in nodes:
            _await_silo(node, home)
            _start_supernode(node, home, home, keys / "ca.pem", f"127.0.0.1:{port}")
        run_app(tools, stage_app(folder / "app", app), plan)


def _tls(keys: Path) -> list[str | Path]:
    return [
        "--enable-supernode-auth",
        *("--ssl-certfile", keys / "server.pem"),
        *("--ssl-keyfile", keys / "server.key"),
        *("--ssl-ca-certfile", keys / "ca.pem"),
    ]


def _start_silo(tools: Flower, silo: SiloCommand, folder: Path, wait: bool = True) -> None:
    tools.start("silo", silo(folder / "s"))
    if wait:
        _await_silo(tools, folder)


def _await_silo(tools: Flower, folder: Path) -> None:
    tools.wait_for(socket_of(folder / "s", 0).exists, "the silo")


def _start_supernode(tools: Flower, folder: Path, keys: Path, ca: Path, superlink: str) -> None:
    private, _ = make_node_key(keys)
    command: list[str | Path] = ["flower-supernode", "--superlink", superlink]
    command += ["--root-certificates", ca, "--auth-supernode-private-key", private]
    command += ["--node-config", f'silo="{socket_of(folder / "s", 0)}"']
    tools.start("supernode", [*command, "--port", str(free_port())])


def _register(tools: Flower, public: Path) -> None:
    try:
        tools.ask("supernode", "register", public, "here")
    except EngineError as error:
        if "already" not in str(error):
            raise


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _stay(tools: Flower) -> None:
    while True:
        tools.check()
        time.sleep(0.5)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Make SIGTERM stop like Ctrl-C: everything is torn down, then the exit is clean."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        _say("stopped")
    finally:
        signal.signal(signal.SIGTERM, before)
