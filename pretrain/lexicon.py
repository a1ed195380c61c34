"""Common English words with the forms that minimal pairs contrast (pretrain.pairs)."""

from typing import NamedTuple

__all__ = [
    "ADJECTIVES", "COMPARED", "FEMALE", "INTRANSITIVE", "MALE", "PEOPLE", "PERSONAL", "PLACES",
    "THINGS", "TIMES", "TRANSITIVE", "Noun", "Verb",
]


class Noun(NamedTuple):
    """Singular and plural."""

    one: str
    many: str


class Verb(NamedTuple):
    """Walk, walks, walked, walked."""

    base: str
    third: str
    past: str
    participle: str


MALE = (
    Noun("man", "men"), Noun("boy", "boys"), Noun("king", "kings"), Noun("father", "fathers"),
    Noun("brother", "brothers"), Noun("son", "sons"), Noun("prince", "princes"),
    Noun("uncle", "uncles"),
)
FEMALE = (
    Noun("woman", "women"), Noun("girl", "girls"), Noun("queen", "queens"),
    Noun("mother", "mothers"), Noun("sister", "sisters"), Noun("daughter", "daughters"),
    Noun("princess", "princesses"), Noun("aunt", "aunts"),
)
PEOPLE = (
    *MALE, *FEMALE, Noun("child", "children"), Noun("farmer", "farmers"),
    Noun("teacher", "teachers"), Noun("soldier", "soldiers"), Noun("doctor", "doctors"),
    Noun("student", "students"), Noun("writer", "writers"), Noun("worker", "workers"),
    Noun("driver", "drivers"), Noun("player", "players"), Noun("singer", "singers"),
    Noun("judge", "judges"), Noun("leader", "leaders"), Noun("painter", "painters"),
    Noun("scientist", "scientists"), Noun("president", "presidents"),
)
THINGS = (
    Noun("house", "houses"), Noun("river", "rivers"), Noun("mountain", "mountains"),
    Noun("road", "roads"), Noun("bridge", "bridges"), Noun("church", "churches"),
    Noun("city", "cities"), Noun("village", "villages"), Noun("book", "books"),
    Noun("letter", "letters"), Noun("picture", "pictures"), Noun("ship", "ships"),
    Noun("tree", "trees"), Noun("garden", "gardens"), Noun("school", "schools"),
    Noun("castle", "castles"), Noun("field", "fields"), Noun("door", "doors"),
    Noun("table", "tables"), Noun("wall", "walls"),
)
TRANSITIVE = (
    Verb("see", "sees", "saw", "seen"), Verb("take", "takes", "took", "taken"),
    Verb("choose", "chooses", "chose", "chosen"), Verb("draw", "draws", "drew", "drawn"),
    Verb("know", "knows", "knew", "known"), Verb("show", "shows", "showed", "shown"),
    Verb("forget", "forgets", "forgot", "forgotten"), Verb("break", "breaks", "broke", "broken"),
)
"""With an object; past tense and participle differ."""
INTRANSITIVE = (
    Verb("sleep", "sleeps", "slept", "slept"), Verb("arrive", "arrives", "arrived", "arrived"),
    Verb("smile", "smiles", "smiled", "smiled"), Verb("laugh", "laughs", "laughed", "laughed"),
    Verb("wait", "waits", "waited", "waited"), Verb("work", "works", "worked", "worked"),
    Verb("live", "lives", "lived", "lived"), Verb("travel", "travels", "travelled", "travelled"),
    Verb("walk", "walks", "walked", "walked"), Verb("rest", "rests", "rested", "rested"),
)
"""Without an object."""
ADJECTIVES = ("old", "young", "small", "tall", "great", "strong", "rich", "poor", "famous", "new")
COMPARED = (
    ("old", "older"), ("young", "younger"), ("small", "smaller"), ("tall", "taller"),
    ("strong", "stronger"), ("rich", "richer"), ("poor", "poorer"), ("fast", "faster"),
)
PERSONAL = (("he", "him"), ("she", "her"), ("they", "them"), ("we", "us"), ("I", "me"))
PLACES = (
    "in the city", "near the river", "in the house", "on the island", "in the north",
    "at the school", "in the village", "behind the church",
)
TIMES = ("every day", "every year", "in the morning", "in the summer", "at night", "in the winter")
