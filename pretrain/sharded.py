"""Checkpoints of which every process writes its part: torch.distributed.checkpoint, safetensors.

Its usual format keeps pickled metadata; that of its safetensors files stands in their own headers.
The parts can be read by any other number of processes, or by one.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commonroot.errors import ArtifactError
from pretrain.trainstate import Tensors

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["describe", "is_sharded", "read_shards", "write_shards"]


def is_sharded(model: "nn.Module") -> bool:
    """Whether each process holds only a part of the weights."""
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def write_shards(folder: Path, tensors: Tensors) -> None:
    """Every process writes its own part as one file."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))


def describe(folder: Path) -> dict[str, Any]:
    """Size and type of every tensor in a checkpoint's files, whole or in parts.

    Raises ArtifactError if the files cannot be read.
    """
    from safetensors import SafetensorError
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    try:
        found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ArtifactError(f"its tensors cannot be read: {error}") from None
    return {name: _Described(tensor) for name, tensor in found.items()}


def read_shards(folder: Path, model: "nn.Module") -> Tensors:
    """All tensors, those of a sharded model's parameters sharded as they are."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    tensors = {name: _room(name, one, model) for name, one in describe(folder).items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)))
    return tensors


class _Described:
    def __init__(self, metadata: Any) -> None:
        self.shape: tuple[int, ...] = tuple(metadata.size)
        self.dtype: torch.dtype = metadata.properties.dtype


def _room(name: str, described: _Described, model: "nn.Module") -> "torch.Tensor":
    """An empty tensor to read `name` into: laid out as its parameter if it has its shape."""
    import torch

    parameters = dict(model.named_parameters())
    part, _, rest = name.partition(".")
    parameter = parameters[rest if part == "model" else rest.rpartition(".")[0]]
    if tuple(parameter.shape) == described.shape:
        return torch.zeros_like(parameter, dtype=described.dtype, requires_grad=False)
    return torch.zeros(described.shape, dtype=described.dtype)
