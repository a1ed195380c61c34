"""A process that owns one shard and serves it on a socket: what runs beside a SuperNode.

It never has the downloaded Flower app on its import path.
"""

import argparse
import json
import signal
import threading
from pathlib import Path

from federate.local import Workbench
from federate.silo import Silo, SiloBounds
from federate.silo_server import serve
from pretrain.model import Compute

__all__ = ["main"]


def main() -> None:
    """Serve until SIGTERM or Ctrl-C; torch, the model and the shard are warm before the socket."""
    parser = argparse.ArgumentParser(prog="python -m federate.silo_process", description=__doc__)
    for name in ("shard", "home", "base", "sockets"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--owner", default="{}", help="JSON: the tables `silo` and `compute`")
    given = parser.parse_args()
    owner = json.loads(given.owner)
    bench = Workbench(given.base, Compute.model_validate(owner.get("compute", {})))
    bounds = SiloBounds.model_validate(owner.get("silo", {}))
    silo = Silo(given.name, given.shard, given.home, bench, bounds)
    assert silo.blocks, "read and tokenised before the first request"
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with serve({given.name: silo}, given.sockets):
        stop.wait()


if __name__ == "__main__":
    main()
