"""The comparison's part of the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commonroot import report
from commonroot.artifact import write_atomic
from federate.comparison.plain_words import in_words
from federate.comparison.plots import ARMS, bars, by_client, by_round, starts
from federate.comparison.tuning_report import learning_rates
from federate.plan import FederateConfig

if TYPE_CHECKING:
    from federate.comparison.stage import CompareConfig

__all__ = ["write_fragments"]

PARTS = ("own", "union", "public")
SHARES = {
    "share_of_central_gain": "what pooling gains over the base, reached (matched tokens)",
    "gap_closed_matched_tokens": "gap between local-only and centralised closed, matched tokens",
    "gap_closed_matched_updates": "the same, matched updates",
    "gap_closed_matched_tokens_plain": "the same, matched tokens, pooled with plain steps",
    "gap_closed_matched_updates_plain": "the same, matched updates, pooled with plain steps",
}
Metrics = Mapping[str, Any]


def write_fragments(
    folder: Path,
    metrics: Metrics,
    tables: Metrics,
    federated: Metrics,
    rounds: FederateConfig,
    section: "CompareConfig",
) -> None:
    """Write verdict.html and report.html into the comparison's folder."""
    write_atomic(folder / report.VERDICT, in_words(metrics, federated))
    arms = [arm for arm in ARMS if arm in metrics["spread"]]
    parts = [
        *_levels(metrics, arms),
        *_uncertainty(metrics, arms),
        report.figure(
            by_round(tables["seeds"]),
            "Clients' validation text by round, beside models that know no rounds"
            + (" (other seeds paler)" if metrics["seeds"] > 1 else ""),
        ),
        report.figure(by_client(tables["per_client"]), "Own test text, client by client"),
        *_gains(metrics),
        *_unseen(metrics, tables),
        *_from_scratch(metrics),
        *_bytes(metrics["bytes"]),
        learning_rates(metrics, tables, rounds, section),
        report.details(
            "One prompt, every model",
            report.prose(f"Prompt: {section.prompt}"),
            report.table(["model", "text"], [[ARMS[arm], tables["samples"][arm]] for arm in arms]),
        ),
        report.details("Every client", _every_client(tables["per_client"], arms)),
    ]
    write_atomic(folder / report.FRAGMENT, report.section("Did federation pay?", *parts))


def _levels(metrics: Metrics, arms: Sequence[str]) -> list[str]:
    rows = [
        [ARMS[arm], *(metrics[arm][f"{part}_bpb"] for part in PARTS), metrics[arm]["tokens"]]
        for arm in arms
    ]
    many = metrics["seeds"] > 1
    return [
        report.prose(
            "Bits per UTF-8 byte, lower is better. Own: a client's model on that client's test "
            "text. Union: one model on every client's test text. Public: held-out public text, "
            "which shows what was forgotten."
            + (f" Means over {metrics['seeds']} seeds." if many else " One seed.")
        ),
        report.table(["model", *PARTS, "private tokens"], rows),
        report.figure(
            bars(metrics, arms),
            "Own, union and public bits per byte of every arm"
            + (", with 95 % confidence intervals over seeds" if many else ""),
        ),
    ]


def _uncertainty(metrics: Metrics, arms: Sequence[str]) -> list[str]:
    clients = metrics["over_clients"]
    rows = [
        [
            ARMS[arm],
            *(_pm(metrics["spread"][arm][f"{part}_bpb"]) for part in PARTS),
            _range(clients[arm]),
            metrics["worst_decile"][arm]["mean"],
        ]
        for arm in arms
    ]
    shares = [
        [text, _pm(metrics["ratios"][name], "not stated"), _range(clients.get(name))]
        for name, text in SHARES.items()
        if name in metrics["ratios"]
    ]
    difference = metrics.get("iid_minus_matched_updates")
    control = (
        " Union of the IID control minus that of centralised training with as many updates: "
        f"{_pm(difference)}."
        if difference
        else ""
    )
    many = metrics["seeds"] > 1
    over = "mean ± standard deviation [95 %] over seeds" if many else "figure"
    seeds = "below twice its standard deviation over seeds, or " if many else ""
    return [
        report.table(["share", over, "95 % over clients' tests"], shares),
        report.prose(
            "Shares are of union bits per byte; none is stated where the gap is "
            f"{seeds}below 0.01. Intervals over clients are bootstrapped over the test texts"
            + (" of the first seed, those over seeds are Student's t." if many else ".")
            + control
        ),
        report.details(
            "How sure each figure is",
            report.table(
                ["model", *PARTS, "union, 95 % over clients", "own, worst tenth of clients"], rows
            ),
        ),
    ]


def _gains(metrics: Metrics) -> list[str]:
    rows = [
        [ARMS[arm], _pm(found["share_of_clients"]), _pm(found["bpb"])]
        for arm, found in metrics["gain"].items()
    ]
    header = ["model", "share of clients that gain", "bits per byte gained"]
    return [report.prose("Own test text, against training alone:"), report.table(header, rows)]


def _unseen(metrics: Metrics, tables: Metrics) -> list[str]:
    if "unseen" not in metrics:
        return []
    columns = {
        "base": "base",
        "local_only": "local only, as many steps as personalisation",
        "local_only_long": "local only, as many as clients in rounds",
        "federated": "federated",
        "personalised": "federated + personalised",
    }
    rows = [
        [row["client"], row["seed"], *(row[name] for name in columns)] for row in tables["unseen"]
    ]
    rows.append(["mean", "", *(metrics["unseen"][name] for name in columns)])
    return [
        "<h3>Clients that no round has seen</h3>",
        report.prose("Own test text, bits per byte."),
        report.table(["client", "seed", *columns.values()], rows),
    ]


def _from_scratch(metrics: Metrics) -> list[str]:
    found = metrics.get("from_scratch")
    if not found:
        return []
    rows = [[r["rounds"], r["base"], r["scratch"], r["difference"]] for r in found["at"]]
    lrs = found["lr"]
    return [
        "<h3>What the public root is worth</h3>",
        report.prose(
            "The same rounds from the public base and from random weights of the same shape, "
            f"clients' learning rates {lrs['base']:g} and {lrs['scratch']:g}; the last round "
            "shown is the last of both runs. Clients' validation text, bits per byte."
        ),
        report.table(["rounds", "from the base", "from random weights", "difference"], rows),
        report.figure(starts(found), "From the public base and from random weights, by round"),
    ]


def _bytes(moved: Mapping[str, int]) -> list[str]:
    rows = [
        ["up, all rounds", moved["up"]],
        ["down, all rounds and evaluations in them", moved["down"]],
        ["down, delivery of the final model", moved["final"]],
        ["the clients' own text", moved["private_raw"]],
        ["the same, zstd", moved["private_zstd"]],
        ["the same, zstd at level 19", moved["private_zstd_best"]],
    ]
    return ["<h3>Bytes</h3>", report.table(["what", "bytes"], rows)]


def _every_client(per_client: Mapping[str, Mapping[str, float]], arms: Sequence[str]) -> str:
    rows = [
        [
            client,
            *(per_client[arm][client] for arm in arms),
            per_client["local_only"][client] - per_client["personalised"][client],
        ]
        for client in per_client["base"]
    ]
    return report.table(["client", *(ARMS[arm] for arm in arms), "gain over local only"], rows)


def _pm(found: Mapping[str, Any] | None, otherwise: str = "") -> str:
    """Mean, and with several seeds its spread."""
    if found is None:
        return otherwise
    if found["std"] is None:
        return f"{found['mean']:.3f}"
    return f"{found['mean']:.3f} ± {found['std']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _range(limits: Sequence[float] | None) -> str:
    return f"[{limits[0]:.3f}, {limits[1]:.3f}]" if limits else "not stated"
