"""peft's LoRA layers in a transformers model: put in, found, taken out.

This file alone knows how peft names things and what it leaves behind. peft is imported only when a
layer is put in: that takes seconds.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = ["adapters_of", "frozen", "inject", "layers_of", "peft_config", "remove", "tensor_name"]


def inject(
    model: "PreTrainedModel", adapter: str, rank: int, scale: float, layers: list[str]
) -> None:
    """Put factors of `rank` into these linear layers, with values of no meaning."""
    import torch
    from peft import inject_adapter_in_model

    with torch.random.fork_rng(devices=[]):  # drawing them must not move torch's own stream
        inject_adapter_in_model(peft_config(rank, scale, layers), model, adapter)
    del model.peft_config  # else peft warns at the next adapter


def remove(model: "PreTrainedModel", adapter: str | None) -> None:
    """Take one adapter out, or all (None); a layer without any is the plain one again."""
    left = [name for name in adapters_of(model) if adapter is not None and name != adapter]
    for name, layer in layers_of(model).items():
        if left:
            layer.set_adapter(left)  # else peft warns that the one in force goes
            if adapter in layer.lora_A:
                layer.delete_adapter(adapter)
        if not left or not layer.lora_A:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer.base_layer)
    if not left:
        model.requires_grad_(True)


def layers_of(model: "PreTrainedModel", adapter: str | None = None) -> dict[str, Any]:
    """peft's layers (that have this adapter) by the name of what they stand for."""
    found = {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    return {n: layer for n, layer in found.items() if adapter is None or adapter in layer.lora_A}


def adapters_of(model: "PreTrainedModel") -> list[str]:
    """All that are in the model, in the order in which they came."""
    names = (name for layer in layers_of(model).values() for name in layer.lora_A)
    return list(dict.fromkeys(names))


def frozen(model: "PreTrainedModel") -> "dict[str, torch.nn.Parameter]":
    """The plain model's parameters by its own names; tied ones once."""
    return {
        name.replace(".base_layer.", "."): value
        for name, value in model.named_parameters()
        if ".lora_A." not in name and ".lora_B." not in name
    }


def tensor_name(layer: str, factor: str, adapter: str) -> str:
    """What `named_parameters` calls a factor."""
    return f"{layer}.{factor}.{adapter}.weight"


def peft_config(rank: int, scale: float, layers: list[str]) -> Any:
    """peft's own LoraConfig."""
    from peft import LoraConfig

    alpha: Any = scale * rank  # peft declares an int and takes a float
    return LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=alpha, target_modules=layers)
