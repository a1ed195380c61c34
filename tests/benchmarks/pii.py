"""Personal data in a generated labelled set: `python -m tests.benchmarks.pii --json`.

Ours beside Presidio's pattern recognisers (mail, telephone, IP, IBAN, cards, identity numbers) and
detect-secrets (keys), each in an environment of its own below --work, on the same texts in one run.
The values are drawn by the public formats (tests/benchmarks/personal), not by the detector's
patterns. Writes ingest/pii_figures.json, which every corpus' data card shows.

A value counts as found if all its letters and figures lie in finds of its kind; as removed if they
lie in finds of any kind. A find is right if it touches a value of its kind. Precision depends on
the share of look-alikes, here half of all texts, and is not that of ordinary pages.
"""

import argparse
import json
import math
import random
import subprocess
import time
import venv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ingest.pii import FIGURES, KINDS, find
from tests.benchmarks.personal.case import Case
from tests.benchmarks.personal.contact import emails, ips, phones
from tests.benchmarks.personal.identities import identities
from tests.benchmarks.personal.keys import keys
from tests.benchmarks.personal.lookalikes import lookalikes
from tests.benchmarks.personal.money import cards, ibans
from tests.benchmarks.record import Result

COMMAND = "python -m tests.benchmarks.pii --json"
OTHERS = ("presidio-analyzer==2.2.366", "detect-secrets==1.5.0")
KIND_OF = {"KEY": keys, "EMAIL": emails, "IBAN": ibans, "ID": identities, "CARD": cards, "IP": ips,
           "PHONE": phones}
LEAST = 0.9
"""Recall and precision wanted of each kind."""

Finds = list[list[tuple[str, int, int]]]


def cases(seed: int, each: int) -> list[Case]:
    """`each` texts a kind, and as many look-alikes as all of them together."""
    made: list[Case] = []
    for kind, make in KIND_OF.items():
        made += make(random.Random(f"{seed}/{kind}"), each)
    return made + list(lookalikes(random.Random(f"{seed}/none"), len(made)))


def wilson(hits: int, of: int) -> list[float]:
    """Share, and its 95 % interval (Wilson 1927)."""
    if not of:
        return [0.0, 0.0, 1.0]
    z, share = 1.96, hits / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return [round(value, 4) for value in (share, max(0.0, middle - half), min(1.0, middle + half))]


def scores(texts: list[Case], finds: Finds) -> dict[str, Any]:
    """Recall, precision, removal by kind, and what was missed or taken wrongly by group."""
    found: Counter[str] = Counter()
    removed: Counter[str] = Counter()
    right: Counter[str] = Counter()
    made: Counter[str] = Counter()
    groups: dict[str, Counter[str]] = {"missed": Counter(), "of": Counter(), "wrong": Counter()}
    for case, here in zip(texts, finds, strict=True):
        for kind, start, end in here:
            made[kind] += 1
            right[kind] += case.kind == kind and _overlaps(case, start, end)
        name = f"{case.kind or 'look-alike'}: {case.group}"
        groups["of"][name] += 1
        if case.kind:
            hit = _covered(case, [one for one in here if one[0] == case.kind])
            found[case.kind] += hit
            removed[case.kind] += _covered(case, here)
            groups["missed"][name] += not hit
        else:
            groups["wrong"][name] += bool(here)
    of = Counter(case.kind for case in texts)
    kinds = {
        kind: {
            "recall": wilson(found[kind], of[kind]),
            "precision": wilson(right[kind], made[kind]),
            "removed": wilson(removed[kind], of[kind]),
        }
        for kind in KINDS
    }
    shares = {
        name: {kind: f"{n}/{groups['of'][kind]}" for kind, n in sorted(groups[name].items()) if n}
        for name in ("missed", "wrong")
    }
    return {"kinds": kinds, **shares}


def _place(case: Case) -> tuple[int, int]:
    start = case.text.index(case.value)
    return start, start + len(case.value)


def _overlaps(case: Case, start: int, end: int) -> bool:
    first, last = _place(case)
    return start < last and first < end


def _covered(case: Case, finds: list[tuple[str, int, int]]) -> bool:
    first, last = _place(case)
    return all(
        any(start <= place < end for _, start, end in finds)
        for place in range(first, last) if case.text[place].isalnum()
    )


def ours(texts: list[Case]) -> tuple[Finds, float]:
    """Finds of each text, and texts a CPU second."""
    started = time.process_time()
    finds = [[tuple(one) for one in find(case.text)] for case in texts]
    return finds, len(texts) / (time.process_time() - started)  # type: ignore[return-value]


def others(texts: list[Case], work: Path) -> tuple[Finds, float]:
    """The same of the libraries, from a process in their own environment."""
    python = work / "bin" / "python"
    if not python.exists():
        venv.create(work, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *OTHERS], check=True)
    script = Path(__file__).parent / "personal" / "libraries.py"
    done = subprocess.run(
        [python, script], input=json.dumps([case.text for case in texts]), text=True,
        capture_output=True, check=True,
    )
    answer = json.loads(done.stdout)
    return answer["finds"], len(texts) / answer["cpu_s"]


def measure(seed: int, each: int, work: Path) -> dict[str, Any]:
    texts = cases(seed, each)
    our_finds, our_speed = ours(texts)
    their_finds, their_speed = others(texts, work)
    return {
        "texts": len(texts), "seed": seed, "of_each_kind": each,
        "ours": {**scores(texts, our_finds), "texts_per_cpu_s": round(our_speed)},
        "presidio_and_detect_secrets": {
            **scores(texts, their_finds), "texts_per_cpu_s": round(their_speed),
        },
    }


def _wrong(texts: list[Case], finds: Finds) -> Iterator[str]:
    """Cases that were judged wrongly, for whoever works on the detector."""
    for case, here in zip(texts, finds, strict=True):
        if case.kind and not _covered(case, [one for one in here if one[0] == case.kind]):
            yield f"missed {case.kind} {case.group}: {case.value!r} in {case.text!r}: {here}"
        for kind, start, end in here:
            if kind != case.kind or not _overlaps(case, start, end):
                value, told = case.text[start:end], case.kind or "none"
                yield f"wrong {kind} in {told} {case.group}: {value!r} in {case.text!r}"


def main() -> None:
    """Measure, keep, and write the figures of the data card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="what is printed anyhow")
    parser.add_argument("--only", action="append", choices=["9"], help="there is one line")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-pii"))
    parser.add_argument("--each", type=int, default=800, help="texts of each kind")
    parser.add_argument("--seed", type=int, default=20261128)
    parser.add_argument("--wrong", action="store_true", help="list our slips, keep nothing")
    given = parser.parse_args()
    if given.wrong:
        texts = cases(given.seed, given.each)
        print("\n".join(_wrong(texts, ours(texts)[0])))
        return
    value = measure(given.seed, given.each, given.work)
    kinds = value["ours"]["kinds"]
    ok = all(kinds[kind][name][0] >= LEAST for kind in KINDS for name in ("recall", "precision"))
    result = Result("pii")
    result.add("9", value, f"recall and precision of every kind >= {LEAST}, with intervals, in the "
               "data card", ok, COMMAND)
    result.keep()
    card = {"command": COMMAND, "texts": value["texts"], "kinds": kinds}
    FIGURES.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
