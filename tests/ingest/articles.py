"""Articles that pass every rule and are like no other."""

SENTENCES = [
    "The {0} rises in the hills and runs past {1} old mills that the town has kept in use.",
    "In spring it carries snow water, and {1} of the meadows by the {0} are flooded for a week.",
    "People say that the bridge over the {0} was built in {1} days, which nobody can believe.",
    "Anglers count the trout of the {0} every autumn and have found more than {1} in one pool.",
    "A ferry crosses the {0} below the weir and takes up to {1} people with their bicycles.",
]
NAMES = (
    "Alder",
    "Birch",
    "Cedar",
    "Elm",
    "Fir",
    "Hazel",
    "Juniper",
    "Larch",
    "Maple",
    "Oak",
    "Pine",
    "Rowan",
    "Spruce",
    "Walnut",
    "Willow",
    "Yew",
    "Aspen",
    "Beech",
    "Holly",
    "Linden",
)


def article(index: int) -> str:
    """A river of its own, with names that no other article holds."""
    millers = " and ".join(
        f"{NAMES[(index * 7 + k) % 20]}{chr(97 + index)}{chr(97 + k)}" for k in range(20)
    )
    told = " ".join(s.format(NAMES[index % 20], index + 3) for s in SENTENCES)
    return f"{told} The millers were called {millers}."
