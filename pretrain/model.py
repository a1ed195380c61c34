"""The model: a stock tied Qwen3 or Llama from config, and where it runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from commonroot.config import Section
from commonroot.errors import ArtifactError, ConfigError
from pretrain.attention import use_short_attention

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "Compute",
    "ModelShape",
    "autocast",
    "build_model",
    "cores",
    "count",
    "in_order",
    "load_model",
    "load_tokenizer",
    "matmul_dtype",
    "model_of",
    "pick_device",
    "save_model",
]


class ModelShape(Section):
    """Kind and size of a model trained from scratch."""

    family: str = Field("qwen3", pattern="^(qwen3|llama)$")
    """Stock transformers class, with tied embeddings: Qwen3 normalises queries and keys, Llama is
    what most other programs load."""
    hidden: int = Field(128, ge=16)
    """Width of the residual stream."""
    layers: int = Field(4, ge=1)
    """Transformer blocks."""
    heads: int = Field(4, ge=1)
    """Query heads; `hidden` must be a multiple of it."""
    kv_heads: int = Field(2, ge=1)
    """Key and value heads; `heads` must be a multiple of it."""
    intermediate: int = Field(384, ge=16)
    """Width of the gated MLP."""
    vocab: int = Field(2048, ge=300, le=65536)
    """Entries of the byte-level BPE, its 256 bytes included."""


class Compute(Section):
    """Where and how arithmetic runs."""

    device: str = Field("auto", pattern="^(auto|cpu|cuda|mps)$")
    """auto: CUDA, then MPS, then CPU."""
    dtype: str = Field("auto", pattern="^(auto|bf16|fp32)$")
    """Autocast type; auto takes bf16 only where the hardware multiplies it (weights stay fp32)."""
    threads: int = Field(0, ge=0)
    """torch threads; 0: one for each core that this process may use."""
    fused: bool = True
    """Learn by this project's own training pass where it can (pretrain.fused: CPUs, Qwen3 and Llama
    models); false: by the model's own forward, as FSDP2 does."""
    compile: bool = False
    """torch.compile the model's own forward for pretraining: for other devices than CPUs, where the
    training pass of this project (pretrain.fused) is faster."""


def build_model(shape: ModelShape, context: int, end_of_text: int, seed: int) -> "PreTrainedModel":
    """A randomly initialised tied model (why Qwen3 by default: docs/decisions.md)."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if shape.hidden % shape.heads or shape.heads % shape.kv_heads:
        raise ConfigError(
            "pretrain.model: hidden must be a multiple of heads, and heads of kv_heads"
        )
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        shape.family,
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.hidden // shape.heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        pad_token_id=end_of_text,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    use_short_attention(model)
    return model


def model_of(settings: dict[str, Any]) -> "PreTrainedModel":
    """A model of this `config.to_dict()`, its weights random."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(settings["model_type"])
    config.update(settings)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    use_short_attention(model)
    return model


def load_model(folder: Path, device: "torch.device | None" = None) -> "PreTrainedModel":
    """A checkpoint in fp32, offline, no remote code. Raises ArtifactError if it does not load."""
    import torch
    from transformers import AutoModelForCausalLM

    _hush()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        first_line = str(error).splitlines()[0]
        raise ArtifactError(f"{folder} is no transformers checkpoint: {first_line}") from None
    use_short_attention(model)
    moved: PreTrainedModel = model.to(device or torch.device("cpu"))  # type: ignore[arg-type]
    return moved


def save_model(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", folder: Path
) -> None:
    """Write a stock checkpoint: `AutoModelForCausalLM.from_pretrained` loads it offline."""
    _hush()
    model.generation_config.update(do_sample=True, temperature=0.8, top_k=50)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a checkpoint folder, offline. Raises ArtifactError if there is none."""
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        first_line = str(error).splitlines()[0]
        raise ArtifactError(f"{folder} has no usable tokenizer: {first_line}") from None
    return tokenizer


def count(model: "PreTrainedModel") -> int:
    """Parameters; tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def pick_device(compute: Compute) -> "torch.device":
    """The device of `compute`, with torch's thread count set as asked."""
    import torch

    threads = compute.threads or min(torch.get_num_threads(), cores())
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    if compute.device != "auto":
        return torch.device(compute.device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of CPU time that a container may take, and in how many."""


def cores() -> int:
    """Cores that this process may use: those it may run on, and no more than its container's
    share of their time."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text("ascii").split()
        return max(1, min(mine, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max"
        return mine


def autocast(compute: Compute, device: "torch.device") -> "torch.autocast":
    """The autocast context of `compute`: off for fp32."""
    import torch

    cheap = matmul_dtype(compute, device) == torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=cheap)


@contextmanager
def in_order(compute: Compute) -> Iterator[None]:
    """While compiled steps are taken, sums whose order does not depend on threads.

    Inductor otherwise adds up an embedding's gradient by atomic adds, as threads come.
    """
    import torch

    deterministic: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), deterministic.fill_uninitialized_memory
    if compute.compile:
        torch.use_deterministic_algorithms(True, warn_only=True)
        deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        deterministic.fill_uninitialized_memory = before[1]


def matmul_dtype(compute: Compute, device: "torch.device") -> "torch.dtype":
    """What matrices are multiplied in: bf16 if asked for, or if auto and the hardware can."""
    import torch

    cheap = compute.dtype == "bf16" or (compute.dtype == "auto" and _multiplies_bf16(device))
    return torch.bfloat16 if cheap else torch.float32


def _hush() -> None:
    """transformers' own bars for single files would break ours."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


def _multiplies_bf16(device: "torch.device") -> bool:
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, probe, bool)() for probe in probes)
    return False
