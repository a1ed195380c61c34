"""Stage 5: base + private shards -> federated checkpoint (3-base, 4-shards -> 5-federated).

The engines differ in how messages travel; the silos, the round loop and this file are the same.
"""

import json
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from commonroot import report
from commonroot.artifact import (
    Artifact,
    Workspace,
    build_artifact,
    load_artifact,
    tree_sha256,
    write_atomic,
)
from commonroot.errors import DataError
from commonroot.progress import MetricsLog
from federate.footprint import check_rounds_fit
from federate.local import Workbench
from federate.lora.adapter import LoraConfig
from federate.plan import FederateConfig, Plan
from federate.population import Population
from federate.shards.stage import Client, clients_of
from federate.silo import Silo
from federate.silo_process import write_spec

__all__ = ["join_as_client", "open_silos", "run", "silo_home", "submit"]

PLAN = "plan.json"


def run(section: FederateConfig, run_dir: Path) -> Artifact:
    """Fine-tune `run_dir`/3-base over the clients of 4-shards into 5-federated."""
    base = load_artifact(run_dir / "3-base", "base")
    shards = load_artifact(run_dir / "4-shards", "shards")

    def make(work: Workspace) -> dict[str, Any]:
        check_rounds_fit(section, base.path)
        bench = Workbench(base.path, section.compute)
        silos, skipped = open_silos(section, clients_of(shards), bench, run_dir)
        plan = _plan(section, base, work, len(silos))
        _through_engine(plan, silos, run_dir)
        return _finish(plan, bench, work, skipped)

    return build_artifact(run_dir / "5-federated", "federated", [base, shards], section, make)


def submit(section: FederateConfig, run_dir: Path, superlink: str, ca: Path) -> Artifact:
    """The same over clients that have joined a running SuperLink; no shard is seen from here."""
    from federate.engines import deployment

    base = load_artifact(run_dir / "3-base", "base")

    def make(work: Workspace) -> dict[str, Any]:
        plan = _plan(section, base, work, section.min_clients)
        path = work.path / PLAN
        deployment.submit(path, ca, run_dir / "logs", superlink)
        return _finish(plan, Workbench(base.path, section.compute), work, {})

    return build_artifact(run_dir / "5-federated", "federated", [base], section, make)


def silo_home(run_dir: Path, client: str) -> Path:
    """Where a simulated silo keeps its ledger, state and personal weights."""
    return run_dir / "silos" / client


def open_silos(
    section: FederateConfig, clients: list[Client], bench: Workbench, run_dir: Path
) -> tuple[Mapping[str, Silo], dict[str, str]]:
    """The silos of all clients with enough text, by name, and why the others are left out.

    Raises DataError if no client is left.
    """
    silos = Population(clients, run_dir / "silos", bench, section.silo)
    return silos, silos.leave_out_unusable()


def _plan(section: FederateConfig, base: Artifact, work: Workspace, expect: int) -> Plan:
    """A resumed run keeps its name, so that silos repeat no round; a new run gets a new one."""
    name = work.scratch("run-name")
    if not name.exists():
        write_atomic(name, secrets.token_hex(8))
    work.note("run", name.read_text())
    work.scratch("rounds")
    plan = Plan(name.read_text(), work.path, base.path, expect, section)
    plan.save(work.scratch(PLAN))
    return plan


def _through_engine(plan: Plan, silos: Mapping[str, Silo], run_dir: Path) -> None:
    path, logs = plan.work / PLAN, run_dir.resolve() / "logs"
    if plan.config.engine == "inprocess":
        from federate.engines import inprocess
        from federate.rounds import run_rounds

        config = plan.config
        threads = config.compute.threads
        inprocess.run(lambda grid: run_rounds(grid, plan), silos, config.workers, threads)
    elif plan.config.engine == "simulation":
        from federate.engines import simulation

        simulation.run(path.resolve(), silos, logs)
    else:
        from federate.engines import deployment

        commands = [_silo_command(silo) for silo in silos.values()]
        deployment.loopback(path.resolve(), commands, logs)


def join_as_client(
    section: FederateConfig,
    shard: Path,
    name: str,
    base: Path,
    run_dir: Path,
    ca: Path,
    superlink: str,
) -> None:
    """Serve one shard to the SuperLink at `superlink` until stopped; `name` is all it is told."""
    from federate.engines import deployment

    name = name or f"client-{tree_sha256(shard)[:8]}"
    load_artifact(base, "base")
    if not ca.is_file():
        raise DataError(f"no certificate {ca}: copy ca.pem from the server's deploy folder")
    silo = Silo(
        name, shard, silo_home(run_dir, name), Workbench(base, section.compute), section.silo
    )
    assert silo.split, "a client without text is told so before anything is started"
    deployment.client(_silo_command(silo), run_dir / "deploy" / name, ca, superlink)


def _silo_command(silo: Silo) -> Any:
    """Folder for sockets -> the command of a process that owns this one silo."""
    spec = write_spec(silo).resolve()
    program = (sys.executable, "-P", "-m", "federate.silo_process")
    return lambda folder: [*program, "--spec", spec, "--sockets", folder]


def _finish(
    plan: Plan, bench: Workbench, work: Workspace, skipped: dict[str, str]
) -> dict[str, Any]:
    """Save the global model as a stock checkpoint beside the records of the run."""
    from federate.roundstate import FINAL, read_round
    from pretrain.model import save_model
    from pretrain.tokenizer import give_chat_template

    lora = plan.config.lora
    bench.wear(lora)
    bench.load(read_round(plan.work / "rounds" / FINAL).weights)
    if lora.rank:
        from federate.lora.adapter import save_adapter

        save_adapter(bench.model, work.path / "adapter", "base", bench.base_weights)
        merged = bench.merged()
        bench.wear(LoraConfig())
        bench.load(merged)
    if plan.config.chat:
        give_chat_template(bench.tokenizer)
    save_model(bench.model, bench.tokenizer, work.path)
    rounds = MetricsLog(work.path / "metrics.jsonl").read()
    clients = json.loads((work.path / "clients.json").read_text("utf-8"))
    write_atomic(work.path / "left_out.json", json.dumps(skipped, indent=1))
    metrics = {
        "clients": len(clients),
        "left_out": len(skipped),
        "rounds": len(rounds),
        "void_rounds": sum(record["void"] for record in rounds),
        "excluded_replies": sum(len(record["excluded"]) for record in rounds),
        "private_tokens": sum(record["tokens"] for record in rounds),
        "personal_tokens": sum(row["personal_tokens"] for row in clients.values()),
        "bytes_up": sum(record["bytes_up"] for record in rounds),
        "bytes_down": sum(record["bytes_down"] for record in rounds),
        "bytes_final": json.loads((plan.work / "delivery.json").read_text())["bytes"],
        "validation_bpb": [r["validation_bpb"] for r in rounds if "validation_bpb" in r],
    }
    write_atomic(work.path / report.FRAGMENT, _fragment(metrics, rounds, clients))
    return metrics


def _fragment(
    metrics: dict[str, Any], rounds: list[dict[str, Any]], clients: dict[str, Any]
) -> str:
    fig = report.new_figure()
    left, right = fig.subplots(1, 2)
    left.plot([r["round"] + 1 for r in rounds], [r["loss"] for r in rounds], marker="o")
    left.set(xlabel="round", ylabel="clients' training loss (nats per token)")
    tested = [r for r in rounds if r.get("validation_bpb") is not None]
    right.plot([r["round"] + 1 for r in tested], [r["validation_bpb"] for r in tested], marker="o")
    right.set(xlabel="round", ylabel="validation text (bits per byte)")
    moved = metrics["bytes_up"] + metrics["bytes_down"]
    chosen = sum(row["personal_chosen"] for row in clients.values())
    return report.section(
        "The graft: federated rounds",
        report.prose(
            f"{metrics['clients']} clients, {metrics['rounds']} rounds, "
            f"{metrics['private_tokens']:,} private tokens used where they are. "
            f"{moved / 1e6:,.1f} MB of weights and deltas moved ({metrics['bytes_up'] / 1e6:,.1f} "
            f"up, {metrics['bytes_down'] / 1e6:,.1f} down); no text. {metrics['excluded_replies']} "
            f"replies were excluded, {metrics['void_rounds']} rounds were void. After the last "
            f"round {chosen} of {len(clients)} clients kept a personal model of their own."
        ),
        report.figure(fig, "Training loss and federated validation, by round"),
        report.details(
            "Every round",
            report.table(
                ["round", "lr", "loss", "tokens", "mean delta", "cosine", "excluded"],
                [
                    [
                        r["round"] + 1,
                        f"{r['lr']:.2e}",
                        r["loss"],
                        r["tokens"],
                        r["delta_norm"],
                        r["cosine"],
                        "; ".join(f"{n}: {w}" for n, w in r["excluded"].items()),
                    ]
                    for r in rounds
                ],
            ),
        ),
    )
