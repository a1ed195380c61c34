"""From the arms' results to figures: shares of gaps, their uncertainty, clients that gain."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from federate.comparison.intervals import SMALLEST_GAP, bootstrap, interval, ratio, worst_decile
from federate.private_text import Split
from federate.shards.tables import document_text

__all__ = ["MEASURES", "RATIOS", "beats", "private_bytes", "summarise"]

MEASURES = ("own_bpb", "union_bpb", "public_bpb")
RATIOS = {
    "share_of_central_gain": ("base", "federated", "centralised"),
    "gap_closed_matched_tokens": ("local_only", "federated", "centralised"),
    "gap_closed_matched_updates": ("local_only", "federated", "centralised_matched_updates"),
    "gap_closed_matched_tokens_plain": ("local_only", "federated", "centralised_plain"),
    "gap_closed_matched_updates_plain": (
        "local_only",
        "federated",
        "centralised_matched_updates_plain",
    ),
}
"""(from - reached) / (from - to) on union bpb."""
Seeds = Sequence[Mapping[str, Any]]
"""For each seed its arms (name -> federate.arms.Result), curves and unseen clients."""


def summarise(seeds: Seeds, traffic: dict[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The comparison's metrics, without client names, and the tables that stand beside them."""
    arms = list(seeds[0]["arms"])
    each = {arm: [seed["arms"][arm] for seed in seeds] for arm in arms}
    per_client = {arm: _client_means(results) for arm, results in each.items()}
    columns = (*MEASURES, "tokens")
    metrics: dict[str, Any] = {
        arm: {what: float(np.mean([r[what] for r in results])) for what in columns}
        for arm, results in each.items()
    }
    for arm in arms:
        metrics[arm]["tokens"] = round(metrics[arm]["tokens"])
    ratios = _ratios(seeds)
    metrics |= {name: found and found["mean"] for name, found in ratios.items()}
    metrics |= {
        "clients": len(per_client["base"]),
        "personalised_beats_local": beats(per_client["personalised"], per_client["local_only"]),
        "seeds": len(seeds),
        "ratios": ratios,
        "spread": {
            arm: {what: interval([r[what] for r in results]) for what in MEASURES}
            for arm, results in each.items()
        },
        "over_clients": _over_clients(seeds[0]["arms"]),
        "gain": {arm: _gain(seeds, arm) for arm in ("federated", "personalised", "centralised")},
        "worst_decile": {
            arm: interval([worst_decile(list(r["clients"].values())) for r in results])
            for arm, results in each.items()
        },
        "bytes": traffic,
    }
    tables: dict[str, Any] = {
        "per_client": per_client,
        "samples": {arm: seeds[0]["arms"][arm]["sample"] for arm in arms},
        "seeds": [_without_samples(seed) for seed in seeds],
    }
    for kind in ("", "_plain"):
        central = f"centralised_matched_updates{kind}"
        if "federated_iid" in arms and central in arms:
            metrics[f"iid_minus_matched_updates{kind}"] = _minus(seeds, "federated_iid", central)
    if unseen := _unseen_rows(seeds):
        metrics["unseen"] = _unseen(unseen)
        tables["unseen"] = unseen
    return metrics, tables


def beats(one: Mapping[str, float], other: Mapping[str, float]) -> int:
    """Clients for whom `one` is lower."""
    return sum(one[client] < other[client] for client in one)


def private_bytes(splits: Sequence[Split]) -> dict[str, int]:
    """UTF-8 bytes of the clients' text: as it is, and compressed with zstd, client by client.

    `private_zstd` is at Arrow's default level, `private_zstd_best` at level 19.
    """
    import pyarrow as pa

    found = {"private_raw": 0, "private_zstd": 0, "private_zstd_best": 0}
    best = pa.Codec("zstd", compression_level=19)
    for split in splits:
        records = [*split.train, *split.validation, *split.test]
        data = "\n".join(map(document_text, records)).encode()
        found["private_raw"] += len(data)
        found["private_zstd"] += len(pa.compress(data, codec="zstd", asbytes=True))
        found["private_zstd_best"] += len(best.compress(data, asbytes=True))
    return found


def _ratios(seeds: Seeds) -> dict[str, Any]:
    found = {}
    for name, (start, reached, end) in RATIOS.items():
        if end in seeds[0]["arms"]:
            parts = _minus(seeds, start, reached)["values"]
            found[name] = ratio(parts, _minus(seeds, start, end)["values"])
    return found


def _minus(seeds: Seeds, one: str, other: str) -> dict[str, Any]:
    """Difference of two arms' union bpb, seed by seed."""
    return interval([s["arms"][one]["union_bpb"] - s["arms"][other]["union_bpb"] for s in seeds])


def _over_clients(arms: Mapping[str, Any]) -> dict[str, Any]:
    """95 % intervals over the clients' test texts, the models as they are: arms and ratios."""
    order = list(arms["base"]["tests"])
    columns = {arm: [result["tests"][c] for c in order] for arm, result in arms.items()}
    found: dict[str, Any] = {
        arm: bootstrap({arm: column}, lambda means, arm=arm: means[arm])  # type: ignore[misc]
        for arm, column in columns.items()
    }
    for name, (start, reached, end) in RATIOS.items():
        if end in arms:
            used = {arm: columns[arm] for arm in (start, reached, end)}
            found[name] = bootstrap(used, lambda m, s=start, r=reached, e=end: _share(m, s, r, e))  # type: ignore[misc]
    return found


def _share(means: Mapping[str, float], start: str, reached: str, end: str) -> float | None:
    whole = means[start] - means[end]
    return (means[start] - means[reached]) / whole if whole >= SMALLEST_GAP else None


def _gain(seeds: Seeds, arm: str) -> dict[str, Any]:
    """Against training alone, on own test text: share of clients that gain, and bpb gained."""
    shares, gains = [], []
    for seed in seeds:
        alone, together = seed["arms"]["local_only"]["clients"], seed["arms"][arm]["clients"]
        shares.append(beats(together, alone) / len(alone))
        gains.append(float(np.mean([alone[client] - together[client] for client in alone])))
    return {"share_of_clients": interval(shares), "bpb": interval(gains)}


def _client_means(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Own bpb by client, mean over the seeds in which the client took part."""
    names = sorted({name for result in results for name in result["clients"]})
    return {
        name: float(np.mean([r["clients"][name] for r in results if name in r["clients"]]))
        for name in names
    }


def _without_samples(seed: Mapping[str, Any]) -> dict[str, Any]:
    arms = {
        arm: {key: value for key, value in result.items() if key != "sample"}
        for arm, result in seed["arms"].items()
    }
    return {**seed, "arms": arms}


def _unseen_rows(seeds: Seeds) -> list[dict[str, Any]]:
    return [
        {"seed": number, "client": client, **row}
        for number, seed in enumerate(seeds)
        for client, row in seed["unseen"].items()
    ]


def _unseen(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    models = [key for key in rows[0] if key not in ("seed", "client")]
    found: dict[str, Any] = {m: math.fsum(row[m] for row in rows) / len(rows) for m in models}
    for arm in ("local_only", "local_only_long"):
        found[f"personalised_beats_{arm}"] = sum(row["personalised"] < row[arm] for row in rows)
    return {"clients": len(rows), **found}
