"""Low-rank adapters (LoRA) on a warm model: put on, read, set, merged, saved, taken off.

A layer's two factors are called `<layer>.lora_A` and `<layer>.lora_B`, and a frozen parameter keeps
the plain model's name; what peft calls them: federate.peft_layers.
Shape suffixes: O outputs, I inputs of a layer, r rank.

Hu et al. 2021, LoRA, https://arxiv.org/abs/2106.09685.
"""

import fnmatch
import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from commonroot.artifact import write_atomic
from commonroot.config import Section
from commonroot.errors import ConfigError
from federate.local import Weights
from federate.lora.algebra import fold
from federate.lora.peft_layers import (
    adapters_of,
    frozen,
    inject,
    layers_of,
    peft_config,
    remove,
    tensor_name,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pretrain.moments import Moments

__all__ = [
    "SHARED",
    "LoraConfig",
    "activate",
    "attach",
    "detach",
    "initial",
    "load",
    "merged",
    "parameters",
    "read",
    "save_adapter",
    "second_moments",
]

SHARED = "shared"
"""Name of the adapter that travels; others may stand beside it."""


class LoraConfig(Section):
    """Low-rank factors trained in place of the weights."""

    rank: int = Field(0, ge=0, le=1024)
    """Rank of the factors; 0: all weights are trained."""
    scale: float = Field(2.0, gt=0, le=1000)
    """Factor before B A, the same for every rank; peft's alpha is this times the rank."""
    targets: tuple[str, ...] = Field(("*",), min_length=1)
    """Patterns of the linear layers' full names, such as *.q_proj; the output head is never one."""
    seed: int = Field(0, ge=0)
    """Seed of A's first values (B starts at zero)."""


def attach(model: "PreTrainedModel", config: LoraConfig, adapter: str = SHARED) -> None:
    """Put an adapter with its initial values beside the frozen weights; only it is trainable.

    Adapters already there stay in force, frozen. One of this name, rank, scale and layers keeps its
    values; another one is replaced. Raises ConfigError if the targets match no layer, or a layer
    that is too small for the rank.
    """
    targets = _targets(model, config)
    if not _fits(model, config, adapter, targets):
        detach(model, adapter)
        inject(model, adapter, config.rank, config.scale, targets)
        _set(model, initial(model, config, adapter), adapter)
    activate(model, adapters_of(model), train=adapter)


def detach(model: "PreTrainedModel", adapter: str | None = None) -> None:
    """Take off one adapter, or all: then the model is the plain one, all parameters trainable.

    The frozen weights stay as they are, offsets of `load` included.
    """
    remove(model, adapter)


def activate(model: "PreTrainedModel", adapters: Sequence[str], train: str | None = None) -> None:
    """Which adapters are in force, and which one of them (or none) is trainable."""
    for layer in layers_of(model).values():
        layer.set_adapter([name for name in adapters if name in layer.lora_A])
        for name in layer.lora_A:
            layer.lora_A[name].requires_grad_(name == train)
            layer.lora_B[name].requires_grad_(name == train)


def initial(model: "PreTrainedModel", config: LoraConfig, adapter: str = SHARED) -> Weights:
    """The values that an attached adapter starts with, whatever it has now.

    A is uniform within 1/sqrt(inputs), a pure function of (seed, layer name, shape); B is zero.
    """
    weights: Weights = {}
    for name, value in parameters(model, adapter).items():
        shape = tuple(value.shape)
        if name.endswith(".lora_B"):
            weights[name] = np.zeros(shape, np.float32)
            continue
        draw = np.random.default_rng([config.seed, zlib.crc32(name.encode())])
        bound = 1 / math.sqrt(shape[1])
        weights[name] = draw.uniform(-bound, bound, shape).astype(np.float32)
    return weights


def parameters(model: "PreTrainedModel", adapter: str = SHARED) -> "dict[str, torch.nn.Parameter]":
    """The adapter's parameters: `<layer>.lora_A` (r, I) and `<layer>.lora_B` (O, r)."""
    return {
        f"{name}.{factor}": getattr(layer, factor)[adapter].weight
        for name, layer in layers_of(model, adapter).items()
        for factor in ("lora_A", "lora_B")
    }


def read(model: "PreTrainedModel", adapter: str = SHARED) -> Weights:
    """A copy of the adapter's values."""
    return {name: _numpy(value) for name, value in parameters(model, adapter).items()}


def load(model: "PreTrainedModel", weights: Weights, base: Weights, adapter: str = SHARED) -> None:
    """Set the adapter's values and the frozen weights.

    `weights` holds all tensors of `read`, and `base/<parameter>` offsets: a frozen parameter
    becomes that of `base` (all of the plain model) plus its offset, if there is one.
    """
    import torch

    _set(model, weights, adapter)
    with torch.no_grad():
        for name, value in frozen(model).items():
            value.copy_(torch.from_numpy(base[name]))
            if f"base/{name}" in weights:
                value.add_(torch.from_numpy(weights[f"base/{name}"]).to(value.device))


def merged(model: "PreTrainedModel", adapters: Sequence[str] | None = None) -> Weights:
    """All weights by the plain model's names: W + scale * B A of these adapters.

    None takes all that are attached; () gives the frozen weights alone.
    """
    weights = {name: _numpy(value) for name, value in frozen(model).items()}
    for name, layer in layers_of(model).items():
        for adapter in layer.lora_A if adapters is None else adapters:
            a_rI, b_Or = _numpy(layer.lora_A[adapter].weight), _numpy(layer.lora_B[adapter].weight)
            weights[f"{name}.weight"] += np.float32(layer.scaling[adapter]) * (b_Or @ a_rI)
    return weights


def save_adapter(
    model: "PreTrainedModel",
    folder: Path,
    base_name: str,
    base: Weights | None = None,
    adapter: str = SHARED,
) -> None:
    """Write an adapter that `peft.PeftModel.from_pretrained(base, folder)` loads, offline too.

    `base_name` is where peft looks for the base when it is not given one. With `base` (all of the
    plain model), offsets of its layers are folded in, which raises the rank to what holds them;
    without, the adapter belongs to the frozen weights as they are.
    """
    import torch
    from safetensors.torch import save_file

    layers = layers_of(model, adapter)
    scale = next(iter(layers.values())).scaling[adapter]
    weights = read(model, adapter) if base is None else _folded(model, scale, base, adapter)
    tensors = {f"base_model.model.{n}.weight": torch.from_numpy(v) for n, v in weights.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    rank = next(len(value) for name, value in weights.items() if name.endswith(".lora_A"))
    config = peft_config(rank, scale, list(layers)).to_dict()
    config |= {"base_model_name_or_path": base_name, "inference_mode": True}
    config["target_modules"] = sorted(layers)  # peft's set has another order in each process
    write_atomic(folder / "adapter_config.json", json.dumps(config, indent=2, sort_keys=True))


def second_moments(
    model: "PreTrainedModel", moments: "Moments | None", adapter: str = SHARED
) -> "Moments | None":
    """What the base's second moments say of the adapter's, by peft's parameter names.

    With dB = scale * G_OI A^T and independent entries of the weight's gradient G, the mean square
    of dB is scale^2 * V_OI (A*A)^T, where V is that of G; likewise for A.
    """
    if moments is None:
        return None
    found = {}
    for name, layer in layers_of(model, adapter).items():
        a_rI, b_Or = layer.lora_A[adapter].weight.detach(), layer.lora_B[adapter].weight.detach()
        v_OI = moments[f"{name}.weight"].to(a_rI.device) * layer.scaling[adapter] ** 2
        found[tensor_name(name, "lora_A", adapter)] = b_Or.square().T @ v_OI
        found[tensor_name(name, "lora_B", adapter)] = v_OI @ a_rI.square().T
    return found


def _targets(model: "PreTrainedModel", config: LoraConfig) -> list[str]:
    """Names of the linear layers to adapt."""
    import torch

    head = model.get_output_embeddings()
    linear = {
        name.removesuffix(".base_layer"): module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head and ".lora_" not in name
    }
    chosen = [n for n in linear if any(fnmatch.fnmatchcase(n, p) for p in config.targets)]
    if not chosen:
        known = sorted({name.rpartition(".")[2] for name in linear})
        raise ConfigError(f"lora.targets {config.targets} match no layer; there are {known}")
    for name in chosen:
        most = min(linear[name].in_features, linear[name].out_features)
        if config.rank > most:
            raise ConfigError(f"lora.rank {config.rank} is above {most}, the rank of {name}")
    return chosen


def _fits(model: Any, config: LoraConfig, adapter: str, targets: list[str]) -> bool:
    have = {
        name: (layer.r[adapter], layer.scaling[adapter])
        for name, layer in layers_of(model, adapter).items()
    }
    return have == dict.fromkeys(targets, (config.rank, config.scale))


def _folded(model: Any, scale: float, base: Weights, adapter: str) -> Weights:
    """Factors of all that the layers differ by from `base`; as they are if that is no more."""
    weights, now = read(model, adapter), frozen(model)
    offsets = {
        n: _numpy(now[f"{n}.weight"]) - base[f"{n}.weight"] for n in layers_of(model, adapter)
    }
    if not any(offset.any() for offset in offsets.values()):
        return weights
    return fold(weights, {name: offset / scale for name, offset in offsets.items()})


def _set(model: "PreTrainedModel", weights: Weights, adapter: str) -> None:
    import torch

    with torch.no_grad():
        for name, value in parameters(model, adapter).items():
            value.copy_(torch.from_numpy(weights[name]))


def _numpy(value: "torch.Tensor") -> Any:
    return value.detach().cpu().numpy().copy()
