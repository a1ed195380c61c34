"""Who is asked next: everyone takes part before anyone does so twice.

Uniform sampling leaves some of a few dozen clients out of a short run and asks others four times.
"""

from collections.abc import Iterable, Mapping

import numpy as np

__all__ = ["held_out", "least_asked_first"]


def least_asked_first(idle: Iterable[str], times: Mapping[str, int], seed: int) -> list[str]:
    """`idle` clients in the order in which they are to be asked.

    `times`: all clients -> how often each was asked. The order among those that were asked equally
    often is drawn anew for each such cycle, from the seed alone.
    """
    clients, idle = sorted(times), list(idle)
    cycles = {times[name] for name in idle}
    places = {
        cycle: dict(zip(clients, _shuffled(len(clients), seed, cycle), strict=True))
        for cycle in cycles
    }
    return sorted(idle, key=lambda name: (times[name], places[times[name]][name]))


def _shuffled(count: int, seed: int, cycle: int) -> list[int]:
    return [int(place) for place in np.random.default_rng([seed, cycle]).permutation(count)]


def held_out(names: list[str], count: int, seed: int) -> set[str]:
    """Clients that stay out of all rounds, to see what the model is worth to a newcomer."""
    drawn = np.random.default_rng([seed, 43]).permutation(len(names))[: min(count, len(names) - 1)]
    return {names[int(number)] for number in drawn}
