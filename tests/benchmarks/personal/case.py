"""One labelled text, and the sentences that values stand in."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Case", "digits", "letters", "spelt", "within"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Case:
    """A text with one value in it."""

    kind: str
    """What a detector should call the value; "": it should leave it alone."""
    group: str
    """Country, scheme, maker or sort of look-alike."""
    value: str
    text: str


BARE = (
    "{0}",
    "{0}.",
    "({0})",
    "| Anna Bern | {0} | since 2019 |",
    "Anna Bern, {0}, Basel",
    "My details are below:\n{0}\nBest wishes, Anna",
    "She wrote it down twice, {0}; nobody asked for it.",
    "- {0}\n- see above",
    '"{0}"',
)


def within(draw: random.Random, value: str, labelled: Sequence[str], bare: float = 0.4) -> str:
    """The value in a sentence that says what it is, or, in a share of `bare`, in one that does
    not."""
    told = BARE if draw.random() < bare else labelled
    return draw.choice(told).format(value)


def digits(draw: random.Random, count: int) -> str:
    """That many digits, the first not 0."""
    return str(draw.randrange(10 ** (count - 1), 10**count)) if count else ""


def letters(draw: random.Random, count: int, alphabet: str = LETTERS) -> str:
    """That many letters of the alphabet."""
    return "".join(draw.choices(alphabet, k=count))


def spelt(draw: random.Random, form: str) -> str:
    """A form filled in: `#` is a digit, `N` one from 2 to 9; everything else stays."""
    return "".join(
        str(draw.randrange(10)) if c == "#" else str(draw.randrange(2, 10)) if c == "N" else c
        for c in form
    )
