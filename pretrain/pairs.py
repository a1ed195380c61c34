"""Minimal pairs: two sentences that differ in one place, only one of them English.

A language model knows a phenomenon as far as it finds the good sentence the likelier one; guessing
gives one half. The method is that of Warstadt et al. 2020, BLiMP, https://arxiv.org/abs/1912.00582;
the sentences are ours, made from templates and common words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pretrain.lexicon import (
    ADJECTIVES,
    COMPARED,
    FEMALE,
    INTRANSITIVE,
    MALE,
    PEOPLE,
    PERSONAL,
    PLACES,
    THINGS,
    TIMES,
    TRANSITIVE,
)

__all__ = ["PHENOMENA", "Pair", "minimal_pairs"]


T = TypeVar("T")


@dataclass(frozen=True)
class Pair:
    """Two sentences."""

    phenomenon: str
    good: str
    bad: str


class _Dice:
    """Draws from lists; which sentence is drawn follows from the seed alone."""

    def __init__(self, seed: int, number: int) -> None:
        self._rng = np.random.default_rng([seed, number])

    def of(self, choices: Sequence[T]) -> T:
        """One of `choices`."""
        return choices[int(self._rng.integers(len(choices)))]

    def two(self, choices: Sequence[T]) -> tuple[T, T]:
        """Two different ones of `choices`."""
        first, second = self._rng.permutation(len(choices))[:2]
        return choices[int(first)], choices[int(second)]


Both = tuple[str, str]
Template = Callable[[_Dice], Both]


def minimal_pairs(each: int, seed: int = 0) -> list[Pair]:
    """`each` different pairs of every phenomenon, in a fixed order."""
    return [
        Pair(name, _sentence(good), _sentence(bad))
        for number, (name, template) in enumerate(PHENOMENA.items())
        for good, bad in _different(template, _Dice(seed, number), each)
    ]


def _different(template: Template, dice: _Dice, each: int) -> list[Both]:
    found: dict[Both, None] = {}
    while len(found) < each:
        found[template(dice)] = None
    return list(found)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _forms(dice: _Dice) -> tuple[Both, str]:
    """A verb for one and for many in the present or of `be` and `have`, and what may follow."""
    verb, place = dice.of(INTRANSITIVE), dice.of(PLACES)
    seen = f"{dice.of(TRANSITIVE).participle} the {dice.of(THINGS).one}"
    return dice.of(
        [
            ((verb.third, verb.base), dice.of(TIMES)),
            (("is", "are"), place),
            (("was", "were"), place),
            (("has", "have"), seen),
        ]
    )


def _subject_verb(dice: _Dice) -> Both:
    many, noun = dice.of([0, 1]), dice.of(PEOPLE)
    forms, rest = _forms(dice)
    start = f"the {dice.of(ADJECTIVES)} {noun[many]}"
    return f"{start} {forms[many]} {rest}", f"{start} {forms[1 - many]} {rest}"


def _over_phrase(dice: _Dice) -> Both:
    many, (noun, other) = dice.of([0, 1]), dice.two(PEOPLE)
    forms, rest = _forms(dice)
    start = f"the {noun[many]} {dice.of(['near', 'behind', 'with'])} the {other[1 - many]}"
    return f"{start} {forms[many]} {rest}", f"{start} {forms[1 - many]} {rest}"


def _over_clause(dice: _Dice) -> Both:
    many, (noun, other) = dice.of([0, 1]), dice.two(PEOPLE)
    forms, rest = _forms(dice)
    start = f"the {noun[many]} that the {other[1 - many]} {dice.of(['saw', 'knew', 'chose'])}"
    return f"{start} {forms[many]} {rest}", f"{start} {forms[1 - many]} {rest}"


def _determiner(dice: _Dice) -> Both:
    many, noun = dice.of([0, 1]), dice.of(THINGS)
    words = dice.of([("this", "these"), ("that", "those")])
    start = f"the {dice.of(PEOPLE).one} {dice.of(TRANSITIVE).past}"
    rest = f"{dice.of(['', dice.of(ADJECTIVES) + ' '])}{noun[many]}"
    return f"{start} {words[many]} {rest}", f"{start} {words[1 - many]} {rest}"


def _reflexive_number(dice: _Dice) -> Both:
    nouns, alone = dice.of([(MALE, "himself"), (FEMALE, "herself")])
    many, words = dice.of([0, 1]), (alone, "themselves")
    start = f"the {dice.of(ADJECTIVES)} {dice.of(nouns)[many]} {dice.of(['saw', 'knew', 'chose'])}"
    return f"{start} {words[many]}", f"{start} {words[1 - many]}"


def _reflexive_gender(dice: _Dice) -> Both:
    female, words = dice.of([0, 1]), ("himself", "herself")
    noun = dice.of((MALE, FEMALE)[female])
    start = f"the {dice.of(ADJECTIVES)} {noun.one} {dice.of(['saw', 'knew', 'chose'])}"
    return f"{start} {words[female]}", f"{start} {words[1 - female]}"


def _pronoun_case(dice: _Dice) -> Both:
    (subject, object_), noun = dice.of(PERSONAL), dice.of(PEOPLE)
    verb, time = dice.of(["saw", "knew", "chose"]), dice.of(TIMES)
    first = f"{verb} the {noun.one} {time}"
    last = f"the {noun.one} {verb}"
    return dice.of(
        [
            (f"{subject} {first}", f"{object_} {first}"),
            (f"{last} {object_} {time}", f"{last} {subject} {time}"),
        ]
    )


def _verb_form(dice: _Dice) -> Both:
    verb, noun = dice.of(TRANSITIVE), dice.of(PEOPLE)
    before, good, bad = dice.of(
        [
            ("has", verb.participle, verb.past),
            ("had", verb.participle, verb.base),
            ("will", verb.base, verb.past),
            ("did not", verb.base, verb.past),
            ("wants to", verb.base, verb.third),
        ]
    )
    start, rest = f"the {noun.one} {before}", f"the {dice.of(THINGS)[dice.of([0, 1])]}"
    return f"{start} {good} {rest}", f"{start} {bad} {rest}"


def _transitivity(dice: _Dice) -> Both:
    start, rest = f"the {dice.of(ADJECTIVES)} {dice.of(PEOPLE).one}", f"the {dice.of(THINGS).one}"
    bad = dice.of(["slept", "arrived", "smiled", "laughed", "rested"])
    return f"{start} {dice.of(TRANSITIVE).past} {rest}", f"{start} {bad} {rest}"


def _filler_gap(dice: _Dice) -> Both:
    (noun, other), many = dice.two(PEOPLE), dice.of([0, 1])
    start = f"the {noun[many]} {dice.of(['knew', 'remembered', 'forgot'])}"
    rest = f"the {dice.of(ADJECTIVES)} {other.one} {dice.of(['found', 'took', 'built', 'chose'])}"
    full = f"{rest} the {dice.of(THINGS).one}"
    return dice.of(
        [
            (f"{start} what {rest}", f"{start} that {rest}"),
            (f"{start} that {full}", f"{start} what {full}"),
        ]
    )


def _negative_polarity(dice: _Dice) -> Both:
    noun, rest = dice.of(PEOPLE), f"the {dice.of(ADJECTIVES)} {dice.of(THINGS).one}"
    done = f"ever {dice.of(TRANSITIVE).participle} {rest}"
    return dice.of(
        [
            (f"no {noun.one} has {done}", f"some {noun.one} has {done}"),
            (f"no {noun.many} have {done}", f"the {noun.many} have {done}"),
            (f"the {noun.one} has not {done}", f"the {noun.one} has also {done}"),
            (f"nobody has {done}", f"everybody has {done}"),
        ]
    )


def _existential(dice: _Dice) -> Both:
    many, noun, place = dice.of([0, 1]), dice.of(PEOPLE), dice.of(PLACES)
    young = dice.of([word for word in ADJECTIVES if word != "old"])  # after "a"
    words = dice.of([("is", "are"), ("was", "were")])
    count = dice.of([("a", "many"), ("one", "two")])[many]
    rest = f"{count} {young} {noun[many]} {place}"
    return f"there {words[many]} {rest}", f"there {words[1 - many]} {rest}"


def _relative_pronoun(dice: _Dice) -> Both:
    person, thing = dice.of(PEOPLE).one, dice.of(THINGS).one
    place = dice.of([one for one in PLACES if thing not in one])
    rest = f"{dice.of(['was', 'is'])} {place} {dice.of(['had', 'has'])}"
    rest = f"{rest} a {dice.of(['long', 'great', 'strange'])} history"
    return dice.of(
        [
            (f"the {thing} which {rest}", f"the {thing} who {rest}"),
            (f"the {person} who {rest}", f"the {person} which {rest}"),
        ]
    )


def _comparative(dice: _Dice) -> Both:
    (plain, more), (noun, other) = dice.of(COMPARED), dice.two(PEOPLE)
    start, rest = f"the {noun.one} {dice.of(['is', 'was'])}", f"the {other.one}"
    return dice.of(
        [
            (f"{start} {more} than {rest}", f"{start} {plain} than {rest}"),
            (f"{start} as {plain} as {rest}", f"{start} as {more} as {rest}"),
        ]
    )


def _word_order(dice: _Dice) -> Both:
    """One sentence, two neighbours of which change places."""
    (old, tall), noun, verb = dice.two(ADJECTIVES), dice.of(PEOPLE).one, dice.of(TRANSITIVE).base
    thing, place = dice.of(THINGS).one, dice.of(PLACES)
    words = ["the", old, noun, "will", verb, "the", tall, thing, *place.split()]
    at = dice.of([0, 1, 3, 5, 6, len(words) - 3])
    swapped = [*words[:at], words[at + 1], words[at], *words[at + 2 :]]
    return " ".join(words), " ".join(swapped)


PHENOMENA: dict[str, Template] = {
    "subject and verb": _subject_verb,
    "subject and verb over a phrase": _over_phrase,
    "subject and verb over a clause": _over_clause,
    "determiner and noun": _determiner,
    "reflexive: number": _reflexive_number,
    "reflexive: gender": _reflexive_gender,
    "pronoun case": _pronoun_case,
    "verb form": _verb_form,
    "transitivity": _transitivity,
    "filler and gap": _filler_gap,
    "negative polarity": _negative_polarity,
    "existential there": _existential,
    "relative pronoun": _relative_pronoun,
    "comparison": _comparative,
    "word order": _word_order,
}
"""Templates by name; the draws of one depend on its place in this order."""
