"""The part of the model card that was measured: evaluation, what left the clients, compute."""

import json
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from commonroot.artifact import Artifact
from commonroot.progress import MetricsLog

__all__ = ["Stages", "adopted", "compute", "evaluation", "markdown_table", "privacy"]

Stages = Mapping[str, Artifact]
"""Kind -> artifact: web, corpus, base, federated and, if it was run, comparison."""

ARMS = {
    "base": "base: public text only, where the rounds started",
    "local_only": "local only: one model a client, trained on its own text",
    "centralised": "centralised: all text in one place, the same number of tokens",
    "centralised_matched_updates": "centralised, batch of a whole cohort, as many updates",
    "federated": "**federated: the weights published here**",
    "personalised": "federated, then personalised inside each client (not published)",
    "federated_iid": "control: federated over the same text, shuffled among the clients",
}
DEFINITIONS = """Bits per UTF-8 byte (bpb), lower is better; it does not depend on the tokenizer.
**own**: mean over clients of a model on that client's test text. **union**: mean over the clients'
test texts of one model; for models of one client, mean over models and texts. **public**: held-out
public text, which shows what was forgotten."""


def adopted(stages: Stages) -> bool:
    """Whether the base was taken over instead of trained."""
    return str(stages["base"].metrics["provenance"]).startswith("adopted")


def evaluation(stages: Stages) -> str:
    """bpb of every arm, or what the clients themselves reported."""
    table = _every_arm if "comparison" in stages else _reported
    return f"## Evaluation\n\n{DEFINITIONS}\n\n{table(stages)}"


def _every_arm(stages: Stages) -> str:
    metrics = stages["comparison"].metrics
    rows = [
        (what, *(f"{metrics[arm][f'{name}_bpb']:.3f}" for name in ("own", "union", "public")))
        for arm, what in ARMS.items()
        if arm in metrics
    ]
    share = metrics["share_of_central_gain"]
    gained = (
        ""
        if share is None
        else f" The rounds gained {share:.0%} of what pooling all text would have."
    )
    seeds = metrics.get("seeds", 1)
    means = f"Means of {seeds} seeds; the published weights are the first's."
    once = "One seed." if seeds == 1 else means
    return (
        f"{markdown_table(['model', 'own', 'union', 'public'], rows)}\n\n"
        f"Personalised beats local only on own text for {metrics['personalised_beats_local']} of "
        f"{metrics['clients']} clients.{gained} "
        f"{once} Every arm but the base was "
        "given as many private tokens, up to the rounding of steps."
    )


def _reported(stages: Stages) -> str:
    clients = json.loads((stages["federated"].path / "clients.json").read_text("utf-8")).values()
    rows = [("base", "not measured", f"{stages['base'].metrics['public_bpb']:.3f}")]
    for what, key in ((ARMS["federated"], "bpb"), (ARMS["personalised"], "personal_bpb")):
        values = [row[key] for row in clients if key in row]
        own = f"{np.mean(values):.3f}" if values else "not measured"
        rows.append((what, own, "not measured"))
    return (
        f"{markdown_table(['model', 'own', 'public'], rows)}\n\nAs the clients reported after the "
        "last round. Local-only and centralised training were not run: for them somebody must see "
        "the texts of several clients."
    )


def privacy(stages: Stages, tensors: Sequence[str]) -> str:
    """What left the clients, and what nothing here protects from."""
    federated = stages["federated"]
    metrics = federated.metrics
    log = MetricsLog(federated.path / "metrics.jsonl").read()
    replies = sum(len(record["cohort"]) - len(record["excluded"]) for record in log)
    return f"""## Privacy

What left the clients and was used: {replies} weight deltas ({_allowed(federated, tensors)}),
{metrics["bytes_up"]:,} bytes in all; with each of them its token count, loss and norm; and bpb
figures from evaluations. No text. Each client keeps a hash-chained ledger of what it sent.
{metrics["bytes_down"]:,} bytes of weights went down, evaluations included.

**There is no formal guarantee.** No noise was added, so there is no differential privacy, and the
deltas were not masked: whoever ran the server could read each of them. Weight deltas can leak
text: tokens, and sometimes passages, can be reconstructed from them. The weights published here
can hold, and can be made to repeat, passages of private text, above all such as occur often.
Publish and use them only if the owners of the texts accept that."""


def _allowed(federated: Artifact, tensors: Sequence[str]) -> str:
    if "shards" not in federated.manifest["parents"]:
        return f"fp32, at most {len(tensors)} tensors, clipped only where a client's owner does so"
    silo = federated.config["silo"]
    shared = [name for name in tensors if any(fnmatchcase(name, p) for p in silo["share"])]
    bound = silo["clip_norm"]
    clip = f"clipped to an L2 norm of {bound:g}" if bound else "not clipped"
    return f"fp32, {len(shared)} of {len(tensors)} tensors, {clip}"


def compute(stages: Stages) -> str:
    """Parameters, tokens, arithmetic, traffic."""
    base, rounds = stages["base"].metrics, stages["federated"].metrics
    tokens = [base["tokens"], rounds["private_tokens"], rounds["personal_tokens"]]
    flop = 6 * base["parameters"] * sum(tokens)
    devices = sorted({stages[kind].config["compute"]["device"] for kind in ("base", "federated")})
    where = " and ".join(devices).replace("auto", "auto (the CPU, unless an accelerator is there)")
    rows = [
        ("parameters", base["parameters"]),
        ("tokens of pretraining", tokens[0]),
        ("tokens of the rounds", tokens[1]),
        ("tokens of personalisation", tokens[2]),
        ("training arithmetic (estimate: 6 x parameters x tokens)", f"{flop:.2e} FLOP"),
        ("device setting", where),
        ("traffic of all rounds and evaluations, bytes", rounds["bytes_up"] + rounds["bytes_down"]),
    ]
    note = "Energy was not measured. Training of the comparison's other arms is not counted."
    return f"## Compute and environment\n\n{markdown_table(['what', 'how much'], rows)}\n\n{note}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A markdown table; integers with thousands separators."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
