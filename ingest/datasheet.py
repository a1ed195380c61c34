"""DATASHEET.md of a corpus: the questions of Gebru et al. 2018, answered from the records.

https://arxiv.org/abs/1803.09010. What the records do not prove is left open, and says so: a person
has to write it before the corpus is handed on.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from commonroot.artifact import Artifact
from ingest.card import NOT_LOOKED_FOR, markdown, pii_table

__all__ = ["OPEN", "datasheet"]

OPEN = "**To be written by a person: the records do not tell.**"
Entry = tuple[str, str]


def datasheet(
    metrics: Mapping[str, Any], rules: Mapping[str, Any], web: Artifact, dates: Sequence[str]
) -> str:
    """The datasheet of a corpus.

    `metrics` and `rules` are those of the cleaning, `web` the archive that it was made from,
    `dates` the sorted dates of fetching (empty: left out).
    """
    parts: dict[str, list[Entry]] = {
        "Motivation": _motivation(),
        "Composition": _composition(metrics, rules),
        "Collection process": _collection(web, dates),
        "Preprocessing, cleaning, labelling": _preprocessing(metrics, rules),
        "Uses": _uses(metrics, rules),
        "Distribution": _distribution(metrics),
        "Maintenance": _maintenance(),
    }
    head = (
        "# Datasheet\n\nAfter Gebru et al., Datasheets for Datasets "
        "(https://arxiv.org/abs/1803.09010). Every answer is made from the records of the run; "
        f"{sum(OPEN in answer for part in parts.values() for _, answer in part)} are open.\n"
    )
    return head + "".join(_section(title, entries) for title, entries in parts.items())


def _motivation() -> list[Entry]:
    return [
        ("For what purpose was the dataset created?", OPEN),
        ("Who created it, and on behalf of whom?", OPEN),
        ("Who funded it?", OPEN),
    ]


def _composition(metrics: Mapping[str, Any], rules: Mapping[str, Any]) -> list[Entry]:
    languages = markdown(("language", "texts"), metrics["languages"])
    return [
        ("What do the instances represent, and how many are there?",
         f"Main texts of web pages or documents: {metrics['kept']:,}, {metrics['bytes']:,} bytes "
         f"of UTF-8.\n\n{languages}"),
        ("Is it a sample of a larger set?",
         f"{metrics['kept']:,} of {metrics['pages']:,} archived responses; why each other was "
         "dropped stands in `rejects.jsonl`. Whether the sites stand for anything larger: " + OPEN),
        ("What data does each instance consist of?",
         "Text, address, date, sha256, licence as stated, place in the web archive, language, "
         "decisions; README.md lists the columns. There are no labels."),
        ("Are there recommended splits?",
         f"train ({metrics['train']:,}) and heldout ({metrics['heldout']:,}), by the hash of the "
         "text, after duplicates were removed."),
        ("Are there errors, noise or redundancies?",
         f"Duplicates found and dropped: {_count(metrics, 'exact-duplicate')} equal, "
         f"{_count(metrics, 'near-duplicate')} nearly equal. Extraction, language and quality "
         "rules err; how often on this material was not measured."),
        ("Is it self-contained?",
         "The texts are in it. The web archive that `warc_offset` points into is not part of it."),
        ("Might it contain confidential data, or data that identifies people?",
         "Pages were public when they were fetched. " + _personal(metrics, rules)),
        ("Might it offend, or hold biases against groups?", OPEN),
    ]


def _personal(metrics: Mapping[str, Any], rules: Mapping[str, Any]) -> str:
    if not rules["redact_pii"]:
        return NOT_LOOKED_FOR
    return (
        "Personal data of a known form was replaced; names, addresses and what is told about "
        "people were not looked for.\n\n"
        + markdown(("kind", "replaced"), metrics["pii"]) + "\n" + pii_table()
    )


def _collection(web: Artifact, dates: Sequence[str]) -> list[Entry]:
    seen, config = web.metrics, web.config
    crawl = config.get("web", {})
    when = f"Between {dates[0]} and {dates[-1]} (UTC)." if dates else "The dates stand in each row."
    return [
        ("How was the data acquired?",
         f"Sources: {', '.join(_sources(config)) or 'none recorded'}. {seen['addresses']:,} "
         f"addresses were considered, {seen['kept']:,} kept.\n\n"
         + markdown(("what became of an address", "addresses"), seen["decisions"])),
        ("By which mechanism?",
         f"commonroot's own client under the name `{crawl.get('agent', 'commonroot')}`, contact "
         f"{json.dumps(crawl.get('contact') or 'none given')}; robots.txt (RFC 9309), delays and "
         f"Retry-After obeyed. Settings and code version: manifest of the archive, digest "
         f"`{web.digest[:16]}`."),
        ("Over what time?", when),
        ("Were people notified, did they consent, could they refuse?",
         "Nobody was notified. Sites and pages that refuse the use for training by any of the "
         "signals of docs/ingest.md were left out.\n\n"
         + markdown(("refusal (where)", "addresses"), seen["opt_outs"])),
        ("Was there an ethical review, an analysis of the impact on people?", OPEN),
    ]


def _preprocessing(metrics: Mapping[str, Any], rules: Mapping[str, Any]) -> list[Entry]:
    return [
        ("What was done to the data?",
         "By the rules below: main text extracted, language identified, quality judged, "
         + ("personal data of a known form replaced, " if rules["redact_pii"] else "")
         + "equal and nearly equal texts dropped, texts that share passages with named evaluation "
         "sets dropped.\n\n"
         + markdown(("dropped because", "pages"), metrics["dropped"])
         + f"\n```json\n{json.dumps(rules, indent=1, sort_keys=True)}\n```"),
        ("Was the raw data kept?",
         "Yes: `1-web/pages.warc.gz` of the run, from which the corpus can be made again with the "
         "same digest. Pages that refuse were not archived."),
        ("Is the software available?", "commonroot; its version stands in the manifest."),
    ]


def _uses(metrics: Mapping[str, Any], rules: Mapping[str, Any]) -> list[Entry]:
    tokens = sum(metrics["pii"].values())
    told = f"Typed tokens such as [EMAIL] stand in {tokens:,} places. "
    return [
        ("Has it been used already?", OPEN),
        ("What could it be used for?", "Training and evaluating language models."),
        ("Is there anything about it that may affect later uses?",
         (told if rules["redact_pii"] else NOT_LOOKED_FOR + " ")
         + "Only texts in the languages above passed. Held-out texts must not be trained on."),
        ("For what should it not be used?", OPEN),
    ]


def _distribution(metrics: Mapping[str, Any]) -> list[Entry]:
    return [
        ("Will it be handed to others, how and when?", OPEN),
        ("Under which licence or terms?",
         "Each text under those of its page, as far as it states them:\n\n"
         + markdown(("licence", "texts"), metrics["licences"]["spdx"])
         + "\nFor the collection as a whole: " + OPEN),
        ("Have others imposed restrictions on it, do export controls apply?", OPEN),
    ]


def _maintenance() -> list[Entry]:
    return [
        ("Who hosts and maintains it, and how can they be reached?", OPEN),
        ("Will it be updated?", OPEN),
        ("How does somebody get their text out of it?",
         "`commonroot trace --url ADDRESS` finds it, and a run without that address makes the "
         "corpus anew. Who takes such requests: " + OPEN),
        ("Can others extend it?",
         "The same commands over more sources make another corpus, with a datasheet of its own."),
    ]


def _sources(config: Mapping[str, Any]) -> list[str]:
    demo = ["the built-in demo site"] if config.get("demo", {}).get("enabled") else []
    seeds = len(config.get("web", {}).get("seeds", ()))
    crawl = [f"a crawl from {seeds:,} seeds"] if seeds else []
    return demo + crawl + sorted(config.get("fingerprints", {}))


def _count(metrics: Mapping[str, Any], reason: str) -> int:
    return int(metrics["dropped"].get(reason, 0))


def _section(title: str, entries: Sequence[Entry]) -> str:
    return f"\n## {title}\n" + "".join(
        f"\n**{question}**\n\n{answer.rstrip()}\n" for question, answer in entries
    )
