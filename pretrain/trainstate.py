"""The tensors of a training run by name: weights, and what the optimizer remembers of each.

Names are those of the parameters, not their places in the optimizer's groups, so that a checkpoint
of one process can be read by several and the other way round.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from commonroot.errors import ArtifactError

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Tensors", "check", "fill", "tensors_of"]

Tensors = dict[str, "torch.Tensor"]


def tensors_of(model: "nn.Module", optimizer: "torch.optim.Optimizer") -> Tensors:
    """`model.NAME`, and `optimizer.NAME.KEY` for each parameter that has been stepped.

    Raises TypeError if the optimizer keeps something else than tensors.
    """
    found = {f"model.{name}": value.detach() for name, value in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            found[f"optimizer.{name}.{key}"] = value.detach()
    return found


def check(tensors: Mapping[str, Any], model: "nn.Module") -> None:
    """Raises ArtifactError unless these are the weights of `model` and moments of its weights.

    `tensors`: anything with a shape by name.
    """
    shapes = {f"model.{name}": tuple(p.shape) for name, p in model.named_parameters()}
    for name, shape in shapes.items():
        if name not in tensors or tuple(tensors[name].shape) != shape:
            raise ArtifactError(f"{name} is missing or of another shape")
    for name in tensors.keys() - shapes.keys():
        part, _, rest = name.partition(".")
        if part != "optimizer" or f"model.{rest.rpartition('.')[0]}" not in shapes:
            raise ArtifactError(f"{name} is not of this model")


def fill(tensors: Tensors, model: "nn.Module", optimizer: "torch.optim.Optimizer") -> None:
    """Take over what `tensors_of` gave, in place; call `check` first."""
    import torch

    parameters = dict(model.named_parameters())
    places = {id(p): number for number, p in enumerate(_stepped(optimizer))}
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part == "model":
            with torch.no_grad():
                parameters[rest].copy_(value)
        else:
            owner, _, key = rest.rpartition(".")
            moments.setdefault(places[id(parameters[owner])], {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    for number, parameter in enumerate(_stepped(optimizer)):
        for key, value in moments.get(number, {}).items():
            if optimizer.state[parameter][key].dtype != value.dtype:  # torch casts to the weights'
                optimizer.state[parameter][key] = value.to(parameter.device)


def _stepped(optimizer: "torch.optim.Optimizer") -> "list[torch.Tensor]":
    """The optimizer's parameters as `state_dict` numbers them."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
