"""Pages that show nothing until their scripts have run: an empty frame, and a bundle to fill it."""

import re
from typing import Any

__all__ = ["needs_javascript"]

FEW = 200
"""Characters of text; a page that shows as many is read as it is."""
FRAMES = {
    "root", "app", "__next", "__nuxt", "___gatsby", "svelte", "main-app", "app-root", "react-root",
    "q-app", "ember-app", "root-app", "mount",
}
ASKS = re.compile(r"(?:enable|requires?|needs?|activate|turn on|without|active[rz])\W.{0,40}"
                  r"java\s?script|java\s?script.{0,60}(?:enabled?|required|needed|disabled|activ)",
                  re.I | re.S)
SILENT = {"script", "style", "noscript", "template", "title"}


def needs_javascript(tree: Any) -> bool:
    """Is this page, as parsed by lxml, a shell? Little text, and scripts that would make some."""
    if tree is None or _shows(tree, FEW):
        return False
    scripts = sum(1 for script in tree.iter("script") if script.get("src"))
    inline = any(script.text for script in tree.iter("script"))
    if not scripts and not inline:
        return False
    asks = any(ASKS.search(" ".join(said.itertext())) for said in tree.iter("noscript"))
    return asks or (scripts > 0 and (_framed(tree) or not _shows(tree, 1)))


def _shows(tree: Any, least: int) -> bool:
    """Are there this many characters of text to be seen?"""
    count = 0
    for element in tree.iter():
        if isinstance(element.tag, str) and element.tag not in SILENT and element.text:
            count += len(element.text.strip())
        if element.tail:
            count += len(element.tail.strip())
        if count >= least:
            return True
    return False


def _framed(tree: Any) -> bool:
    """An empty element to which a framework would attach the page."""
    for element in tree.iter():
        name = element.tag if isinstance(element.tag, str) else ""
        if "app-root" in name or (name == "div" and (element.get("id") or "").lower() in FRAMES):
            return True
    return False
