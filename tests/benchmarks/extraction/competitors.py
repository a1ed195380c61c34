"""Other extractors, each with its usual call; `make bench` installs them."""

from collections.abc import Callable
from importlib.util import find_spec

from tests.benchmarks.extraction.pages import Sample

__all__ = ["all_installed"]


def all_installed() -> dict[str, Callable[[int, Sample], str]]:
    """By name; a missing library ends the benchmark with a line that says what to do."""
    for name in ("trafilatura", "readability", "resiliparse"):
        if find_spec(name) is None:
            raise SystemExit(f"{name} is not installed: pip install -r requirements-bench.txt")
    return {
        "trafilatura": _trafilatura(fast=False), "trafilatura fast": _trafilatura(fast=True),
        "readability-lxml": _readability, "resiliparse": _resiliparse,
    }


def _trafilatura(fast: bool) -> Callable[[int, Sample], str]:
    def run(number: int, sample: Sample) -> str:
        import trafilatura

        return trafilatura.extract(sample.source, fast=fast, include_comments=False) or ""

    return run


def _readability(number: int, sample: Sample) -> str:
    from lxml import html
    from readability import Document

    summary = Document(sample.source).summary()
    return "\n".join(html.fromstring(summary).itertext()) if summary.strip() else ""


def _resiliparse(number: int, sample: Sample) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    return str(extract_plain_text(
        sample.source, main_content=True, alt_texts=False, list_bullets=False
    ))
