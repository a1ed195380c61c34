"""A process that owns one shard and serves it on a socket: what runs beside a SuperNode.

It never has the downloaded Flower app on its import path.
"""

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from commonroot.artifact import write_atomic
from commonroot.errors import CommonrootError
from federate.local import Workbench
from federate.silo import Silo, SiloBounds
from federate.silo_server import serve
from pretrain.model import Compute

__all__ = ["main", "write_spec"]


def main() -> None:
    """Serve until SIGTERM or Ctrl-C; torch, the model and the shard are warm before the socket."""
    parser = argparse.ArgumentParser(prog="python -m federate.silo_process", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="what `write_spec` wrote")
    parser.add_argument("--sockets", type=Path, required=True, help="folder for the socket")
    given = parser.parse_args()
    try:
        silo = _open(given.spec)
    except CommonrootError as error:
        sys.exit(f"silo: {error}")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with serve({silo.name: silo}, given.sockets):
        stop.wait()


def write_spec(silo: Silo) -> Path:
    """Describe the silo in its own home: a command line could be read by every local user."""
    path = silo.home / "silo.json"
    spec = {
        "name": silo.name,
        "shard": str(silo.shard.resolve()),
        "home": str(silo.home.resolve()),
        "base": str(silo.bench.base.resolve()),
        "silo": silo.bounds.model_dump(),
        "compute": silo.bench.compute.model_dump(),
    }
    write_atomic(path, json.dumps(spec, indent=1))
    return path


def _open(path: Path) -> Silo:
    spec = json.loads(path.read_text("utf-8"))
    bench = Workbench(Path(spec["base"]), Compute.model_validate(spec["compute"]))
    bounds = SiloBounds.model_validate(spec["silo"])
    silo = Silo(spec["name"], Path(spec["shard"]), Path(spec["home"]), bench, bounds)
    assert silo.blocks, "read and tokenised before the first request"
    return silo


if __name__ == "__main__":
    main()
