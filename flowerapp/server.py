"""The ServerApp: starts the server operator's own installed round loop."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

__all__ = ["app"]

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    # Here and not above: loading the app must not need torch.
    from federate.rounds import run_from_plan

    run_from_plan(grid, Path(str(context.run_config["plan"])))
