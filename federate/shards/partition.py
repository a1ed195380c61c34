"""Rows -> clients, for simulation: by a column, or drawn by the partitioners of flwr-datasets.

A partitioner sees row numbers and labels, never a row, so a row of any shape reaches its client
unchanged. The row numbers are shuffled first: flwr-datasets hands out runs of consecutive rows, and
rows that stand together are often alike.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from commonroot.config import Section
from commonroot.errors import ConfigError
from federate.private_text import cut_text
from federate.shards.tables import Row, is_record

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner

__all__ = [
    "LABELLED",
    "PartitionConfig",
    "by_column",
    "cut_rows",
    "draw",
]

LABELLED = ("dirichlet", "pathological", "shard")
PIECES_A_CLIENT = 10
"""Ten pieces make an 80/10/10 split and a mixture of several authors."""
SHORTEST_PIECE = 200
"""Characters; a silo cuts no finer."""


class PartitionConfig(Section):
    """[shards.partition]"""

    how: str = Field(
        "natural",
        pattern="^(natural|iid|dirichlet|linear|square|exponential|pathological|shard)$",
    )
    """natural: a client for each value of `shards.key`. iid: shuffled, the control. dirichlet:
    label shares drawn from Dir(`alpha`). linear, square, exponential: client i gets i, i² or e^i
    parts. pathological: few labels a client. shard: sorted by label, cut, dealt out."""
    clients: int = Field(0, ge=0)
    """How many; 0: as many as there are natural clients, out of the same rows (iid: also each of
    its natural client's size, so that what differs from `natural` is the mixture alone)."""
    label: str = ""
    """Column whose skew dirichlet, pathological and shard make and the report shows; empty:
    `shards.key` (its clients as labels), and nothing to show."""
    alpha: float = Field(0.5, gt=0, allow_inf_nan=False)
    """Concentration of dirichlet: 100 is nearly iid, 0.1 leaves most clients one or two labels."""
    labels_per_client: int = Field(2, ge=1)
    """Labels (pathological) or slices of the sorted rows (shard) that a client gets."""
    min_rows: int = Field(0, ge=0)
    """Clients with fewer rows (always: with none) are left out and counted; dirichlet is redrawn
    up to ten times until all have as many."""
    piece_chars: int = Field(3000, ge=0)
    """Characters: unless natural, a longer `text` is cut at white space into rows of its own;
    halved, down to 200, until each client can get ten; 0: rows stay whole."""
    seed: int = Field(0, ge=0)
    """Of the shuffle and the partitioner."""


def cut_rows(
    groups: Sequence[Sequence[Row]], section: PartitionConfig, clients: int
) -> tuple[list[Row], list[int]]:
    """The rows of all groups, long texts as several rows, and how many came of each group.

    A few long texts cannot be dealt out evenly: pieces get shorter until there are ten a client.
    Whole records (prompts, chats) are never cut.
    """
    size = section.piece_chars
    while True:
        cut = [[piece for row in rows for piece in _pieces(row, size)] for rows in groups]
        held = [len(rows) for rows in cut]
        if sum(held) >= PIECES_A_CLIENT * clients or size <= SHORTEST_PIECE:
            return [row for rows in cut for row in rows], held
        size = max(SHORTEST_PIECE, size // 2)


def _pieces(row: Row, size: int) -> Iterator[Row]:
    if not size or is_record(row) or len(row["text"]) <= size:
        yield row
    else:
        yield from ({**row, "text": piece} for piece in cut_text(row["text"], size))


def by_column(values: Sequence[Any]) -> dict[str, list[int]]:
    """Value -> its row numbers: what NaturalIdPartitioner gives, without 1 ms a client."""
    grouped: dict[str, list[int]] = {}
    for number, value in enumerate(values):
        grouped.setdefault(str(value), []).append(number)
    return grouped


def draw(
    section: PartitionConfig, clients: int, labels: Sequence[str], sizes: Sequence[int] = ()
) -> list[list[int]]:
    """Row numbers of each client, ascending; a client may be empty, a row may be nobody's.

    `labels` holds one string a row. `sizes` are the rows of each client for iid; equal if not
    given. Raises ConfigError if flwr-datasets cannot partition these rows in this way.
    """
    rows = len(labels)
    if clients > rows:
        raise ConfigError(
            f"[shards.partition] asks for {clients:,} clients out of {rows:,} rows: ask for fewer"
        )
    distinct = len(set(labels))
    if section.how == "pathological" and section.labels_per_client > distinct:
        raise ConfigError(
            f"[shards.partition] labels_per_client = {section.labels_per_client}, but there are "
            f"only {distinct} labels: set it lower"
        )
    order = np.random.default_rng([section.seed, 4]).permutation(rows)
    if section.how == "iid":
        return _deal(order, sizes or [len(part) for part in np.array_split(order, clients)])
    with _quiet():
        from datasets import Dataset

        partitioner = _partitioner(section, clients)
        partitioner.dataset = Dataset.from_dict(
            {"row": order, "label": [labels[number] for number in order]}
        )
        try:
            return [
                sorted(partitioner.load_partition(client)["row"][:]) for client in range(clients)
            ]
        except ValueError as error:
            raise ConfigError(_explain(section, clients, error)) from None


def _deal(order: np.ndarray, sizes: Sequence[int]) -> list[list[int]]:
    with _quiet():
        from datasets import Dataset
        from flwr_datasets.partitioner import SizePartitioner

        partitioner = SizePartitioner([int(size) for size in sizes])
        partitioner.dataset = Dataset.from_dict({"row": order})
        # load_partition takes 1 ms a client; here the row numbers are public.
        places = partitioner.partition_id_to_indices
    return [sorted(order[places[client]].tolist()) for client in range(len(sizes))]


def _partitioner(section: PartitionConfig, clients: int) -> "Partitioner":
    from flwr_datasets import partitioner as known

    few, seed = section.labels_per_client, section.seed
    if section.how == "dirichlet":
        return known.DirichletPartitioner(
            clients, "label", section.alpha, section.min_rows, shuffle=False, seed=seed
        )
    if section.how == "pathological":
        # Random assignment can leave a label to nobody even where there are clients enough.
        mode = "first-deterministic"
        return known.PathologicalPartitioner(clients, "label", few, mode, shuffle=False, seed=seed)
    if section.how == "shard":
        return known.ShardPartitioner(clients, "label", few, shuffle=False, seed=seed)
    by_size = {
        "linear": known.LinearPartitioner,
        "square": known.SquarePartitioner,
        "exponential": known.ExponentialPartitioner,
    }
    return by_size[section.how](clients)


def _explain(section: PartitionConfig, clients: int, error: ValueError) -> str:
    if section.how == "dirichlet":
        return (
            f"[shards.partition] in ten draws not all of {clients:,} clients got "
            f"{section.min_rows} rows: raise alpha, or lower min_rows or clients"
        )
    if section.how == "pathological":
        return (
            "[shards.partition] a label has fewer rows than clients that would share it: "
            "lower clients or labels_per_client"
        )
    return (
        f"[shards.partition] how = {section.how!r} leaves some of {clients:,} clients without "
        f"rows: ask for fewer ({str(error).split('.')[0].strip()})"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of flwr-datasets: what they tell is counted or checked here."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
