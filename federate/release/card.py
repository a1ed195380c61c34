"""The model card in Hugging Face format, written from the manifests of the stages alone."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from commonroot.artifact import json_lines
from commonroot.verify import SOURCES
from federate.release.card_figures import (
    Stages,
    adopted,
    compute,
    evaluation,
    markdown_table,
    privacy,
)

if TYPE_CHECKING:
    from federate.release.stage import ReleaseConfig

__all__ = ["card", "licences_of"]

LICENCES_SHOWN = 8


def card(
    section: "ReleaseConfig",
    stages: Stages,
    lineage: Mapping[str, Any],
    tensors: Sequence[str],
    licences: Mapping[str, int],
) -> str:
    """README.md of a release; `tensors` are the model's tensor names. No text of any corpus."""
    parts = [
        _header(section, stages, lineage),
        _summary(section, stages),
        _loading(section),
        _use(stages),
        _data(section, stages, licences),
        _procedure(stages),
        evaluation(stages),
        privacy(stages, tensors),
        compute(stages),
        _provenance(stages, lineage),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def licences_of(sources: str) -> dict[str, int]:
    """Licence -> documents, out of the lines of sources.jsonl; the most frequent first."""
    found = Counter(source["licence"] or "none stated" for source in json_lines(sources))
    ranked = dict(found.most_common(LICENCES_SHOWN))
    rest = found.total() - sum(ranked.values())
    return {**ranked, "others": rest} if rest else ranked


def _header(section: "ReleaseConfig", stages: Stages, lineage: Mapping[str, Any]) -> str:
    lines = [
        f"license: {section.licence.lower()}",
        "library_name: transformers",
        "pipeline_tag: text-generation",
    ]
    if adopted(stages) and section.base_model:
        lines.append(f"base_model: {json.dumps(section.base_model)}")
    languages = section.language or _languages(stages, lineage)
    # Quoted: bare `no` (Norwegian) is false in YAML.
    lines += ["language:", *(f'- "{code}"' for code in languages)]
    lines += ["tags:", "- commonroot", "- federated-learning", "- flower"]
    return "---\n" + "\n".join(lines) + "\n---"


def _languages(stages: Stages, lineage: Mapping[str, Any]) -> list[str]:
    records = [other["record"]["metrics"] for other in lineage["mixture"].values()]
    mixed = (code for metrics in records for code in metrics.get("languages", {}))
    return sorted({*stages["corpus"].metrics["languages"], *mixed})


def _summary(section: "ReleaseConfig", stages: Stages) -> str:
    base, rounds = stages["base"].metrics, stages["federated"].metrics
    name = f" ({section.base_model})" if section.base_model else ""
    origin = f"from random weights on {base['tokens']:,} tokens of public web text"
    if adopted(stages):
        origin = f"out of an adopted checkpoint{name}, whose own training data is not known here"
        if base["tokens"]:
            origin += f", trained further on {base['tokens']:,} tokens of public web text"
    facts = (
        f"A language model of {base['parameters']:,} parameters. It was grown {origin}, and then "
        f"fine-tuned by federated learning over {rounds['clients']} clients, whose texts stayed "
        "where they were."
    )
    return "\n\n".join(filter(None, [f"# {section.name}", section.description, facts]))


def _loading(section: "ReleaseConfig") -> str:
    prompt = f'tokenizer({json.dumps(section.prompt)}, return_tensors="pt")'
    return f"""## How to load it

In this folder, or with the repository's name in place of `"."` (transformers 5 or later):

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = AutoModelForCausalLM.from_pretrained("."), AutoTokenizer.from_pretrained(".")
print(tokenizer.decode(model.generate(**{prompt}, max_new_tokens=40)[0]))
```"""


def _use(stages: Stages) -> str:
    parameters, context = stages["base"].metrics["parameters"], stages["base"].config["context"]
    window = "that of the adopted checkpoint" if adopted(stages) else f"{context:,} tokens"
    return f"""## Intended use

Continuing text of the kind that it was trained on; research on federated fine-tuning; a start for
further training. It is a plain language model: not tuned to follow instructions or to chat.

Not for: statements of fact, advice, decisions about people, or anything where a wrong sentence
does harm; finding out what a client's texts say.

## Limitations

- With {parameters:,} parameters it invents names, numbers and events, fluently or not.
- Context: {window}. Languages other than those in the header are not covered.
- It repeats the biases of its public pages and of its clients' texts. Nothing was done to align it.
- Fine-tuning can make it forget public text: see the column *public* below.
- It may have learned private passages by heart: see *Privacy*."""


def _data(section: "ReleaseConfig", stages: Stages, licences: Mapping[str, int]) -> str:
    corpus, base = stages["corpus"].metrics, stages["base"].metrics
    rounds = stages["federated"].metrics
    use = f"{base['corpus_tokens']:,} training tokens, {base['tokens']:,} seen"
    if adopted(stages) and not base["tokens"]:
        use = "measured on, not trained on"
    names = sorted(json.loads((stages["federated"].path / "clients.json").read_text("utf-8")))
    named = f" Clients: {', '.join(names)}." if section.client_names else ""
    return f"""## Training data

**Public.** {corpus["kept"]:,} documents, {corpus["bytes"]:,} bytes, out of
{corpus["pages"]:,} responses ({use}); {corpus["heldout"]:,} of the documents were held out and
only measured on. Robots rules and opt-outs from training were obeyed. Dropped:
{_counts(corpus["dropped"])}. Personal data of a known form, replaced by typed tokens:
{_counts(corpus["pii"])}. `{SOURCES}` lists every document: URL, sha256 of its text, licence.
{_mixture(base)}
{markdown_table(["licence that the page states", "documents"], licences.items())}

**Private.** {rounds["clients"]} clients trained on {rounds["private_tokens"]:,} tokens in all
(tokens seen again are counted again). Each splits its own text into training, validation and test
inside the client. The texts were not pooled for this model and are not published.{named}"""


def _mixture(base: Mapping[str, Any]) -> str:
    """Nothing where all text is of one corpus."""
    corpora: Mapping[str, Mapping[str, Any]] = base.get("corpora", {})
    if len(corpora) < 2:
        return ""
    rows = [
        (name, f"{row['share']:.1%}", f"{row['documents']:,}", f"{row['epochs']:.2f}",
         f"`{row['digest'][:16]}`")
        for name, row in corpora.items()
    ]  # fmt: skip
    header = ["part of the mixture", "share of tokens", "documents", "times read", "corpus"]
    return (
        "\nTraining text was mixed from several parts. The figures above are of this run's own "
        "corpus alone; the documents of each other corpus are listed in a file beside that list."
        f"\n\n{markdown_table(header, rows)}\n"
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _procedure(stages: Stages) -> str:
    config, metrics = stages["federated"].config, stages["federated"].metrics
    local, cohort = config["local"], min(config["cohort"], metrics["clients"])
    rows = [
        ("pretraining", _root(stages)),
        ("rounds", f"{metrics['rounds']}, of which {metrics['void_rounds']} void"),
        ("cohort", f"{cohort} of {metrics['clients']} clients a round"),
        ("local training", _local(local)),
        ("local learning rate, weight decay", f"{local['lr']:g}, {local['weight_decay']:g}"),
        ("learning rate over the rounds", f"falls over the last {config['cooldown']:.0%}"),
        ("trained", _trained(config["lora"])),
        ("aggregation", _aggregation(config)),
        ("pacing", config["pacing"]["mode"]),
        ("bits a parameter, up and down", f"{config['up']['bits']:g}, {config['down']['bits']:g}"),
        (
            "quorum, deadline",
            f"{config['quorum']:.0%} of the cohort, {config['pacing']['timeout_s']:g} s",
        ),
        ("replies excluded as not valid", f"{metrics['excluded_replies']}"),
        ("personalisation", f"{config['personal']['steps']} steps in each client, not published"),
        ("engine, seed", f"{config['engine']}, {config['seed']}"),
    ]
    return f"## Training procedure\n\n{markdown_table(['what', 'how'], rows)}"


def _local(local: Mapping[str, Any]) -> str:
    beside = f", {local['replay']:g} public blocks beside each" if local["replay"] else ""
    return f"AdamW, {local['steps']} steps of {local['batch']} blocks{beside}"


def _trained(lora: Mapping[str, Any]) -> str:
    if not lora["rank"]:
        return "all weights"
    return f"LoRA of rank {lora['rank']} on {', '.join(lora['targets'])}, merged afterwards"


def _aggregation(config: Mapping[str, Any]) -> str:
    rate = config["server_lr"]
    options = "".join(f", {key} {value}" for key, value in config["strategy_options"].items())
    return f"{config['strategy']}, server learning rate {rate or 'as it is by default'}{options}"


def _root(stages: Stages) -> str:
    config = stages["base"].config
    if adopted(stages) and not config["continue_training"]:
        return "none: the base was adopted"
    return (
        f"AdamW, peak learning rate {config['lr']:g}, {config['batch']} x {config['context']} "
        f"tokens a step, {config['warmup']} steps of warm-up, decay over the last "
        f"{config['decay']:.0%}, seed {config['seed']}"
    )


def _provenance(stages: Stages, lineage: Mapping[str, Any]) -> str:
    rows = [
        (entry["kind"], f"`{entry['digest']}`", ", ".join(sorted(entry.get("parents", {}))) or "-")
        for entry in lineage["ancestors"]
    ]
    return f"""## Provenance

Made by commonroot {stages["federated"].manifest["code"]}. Each stage was sealed with a digest over
its inputs, its configuration and its files:

{markdown_table(["stage", "digest", "made from"], rows)}

`lineage.json` holds the records behind these digests (of the private shards only the digest). To
recheck every file and the chain down to the list of URLs: `commonroot verify .`, in this folder.
Hashes find damage and mix-ups; they do not prove who published this."""
