"""Start from an existing checkpoint: a local folder, or a name on the hub with a pinned revision.

Any family that AutoModelForCausalLM loads by itself: weights from safetensors only, no remote code.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from commonroot.artifact import tree_sha256
from commonroot.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from pretrain.stage import PretrainConfig

__all__ = ["Adopted", "adopt", "context_of", "continued", "load", "settings_of"]

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+|[\w.-]+")
WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
"""What a checkpoint needs: weights, configs, tokenizer; nothing pickled, no code."""


@dataclass(frozen=True)
class Adopted:
    """A checkpoint on disk."""

    folder: Path
    name: str = ""
    """Its name on the hub; "" for a folder, whose path is nobody else's business."""
    revision: str = ""
    """The commit on the hub."""

    @property
    def digest(self) -> str:
        """sha256 over what is used of it."""
        return tree_sha256(self.folder)

    @property
    def provenance(self) -> str:
        """What can be said of where its weights come from."""
        return f"adopted: {self.name}@{self.revision}" if self.name else "adopted: unknown"


def adopt(base: str, revision: str = "") -> Adopted:
    """Find `base`: a folder, or else a hub name, downloaded (or taken from the hub's cache).

    Raises ArtifactError if it is neither or holds no safetensors.
    """
    folder = Path(base).expanduser()
    if folder.is_dir():
        if revision:
            raise ConfigError("pretrain.revision goes with a name on the hub, not with a folder")
        found = Adopted(folder)
    elif HUB_NAME.fullmatch(base) and not base.startswith("."):
        found = _from_hub(base, revision)
    else:
        raise ArtifactError(f"pretrain.base = {base}: no such folder, and no name on the hub")
    if not any(found.folder.glob("*.safetensors")):
        raise ArtifactError(
            f"{base} is no transformers checkpoint with safetensors, the only weights that are "
            "read: convert it with save_pretrained"
        )
    return found


def _from_hub(name: str, revision: str) -> Adopted:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    try:
        path = snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=WANTED,
            local_files_only=constants.HF_HUB_OFFLINE,
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        why = (
            "it is not in the hub's cache, and HF_HUB_OFFLINE is set: set HF_HUB_OFFLINE=0 once"
            if constants.HF_HUB_OFFLINE
            else (str(error).splitlines() or ["no answer"])[0]
        )
        at = f" at {revision}" if revision else ""
        raise ArtifactError(
            f"pretrain.base = {name}: no such folder, and not to be had from the hub{at}: {why}"
        ) from None
    return Adopted(Path(path), name, Path(path).name)  # a snapshot's folder is its commit


def continued(section: "PretrainConfig") -> "PretrainConfig":
    """The settings under which an adopted base is trained on.

    Plain AdamW: a checkpoint of others was most probably trained with it.
    """
    if section.budget:
        raise ConfigError("pretrain.budget chooses a new model's size: with a base give tokens")
    return section.model_copy(update={"optimizer": "adamw", "lr": section.continue_lr})


def settings_of(folder: Path) -> "PreTrainedConfig":
    """The model's config, read without its weights. Raises ArtifactError."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        first_line = str(error).splitlines()[0]
        raise ArtifactError(f"{folder} is no transformers checkpoint: {first_line}") from None
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ArtifactError(f"{folder} holds {config.model_type!r}, no causal language model")
    found: PreTrainedConfig = config
    return found


def context_of(base: Path, config: "PreTrainedConfig") -> int:
    """Tokens a block of a base of 3-base: what it was made with; of a plain checkpoint its most."""
    longest = int(config.max_position_embeddings)
    try:
        manifest = json.loads((base / "manifest.json").read_text("utf-8"))
        return min(longest, int(manifest["config"]["context"]))
    except (OSError, ValueError, KeyError, TypeError):
        return longest


def load(
    adopted: Adopted, context: int, device: "torch.device"
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The model in fp32 and its own tokenizer, checked against each other and `context`.

    Raises ArtifactError or ConfigError.
    """
    from pretrain.model import load_model, load_tokenizer

    config = settings_of(adopted.folder)
    longest = getattr(config, "max_position_embeddings", None)
    if longest and context > longest:
        raise ConfigError(f"pretrain.context = {context}: this base takes {longest} tokens at most")
    tokenizer = load_tokenizer(adopted.folder)
    if tokenizer.eos_token_id is None:
        raise ArtifactError(f"the tokenizer in {adopted.folder} names no end-of-text token")
    if len(tokenizer) > config.vocab_size:
        raise ArtifactError(
            f"{adopted.folder}: {len(tokenizer):,} tokens, but a model of {config.vocab_size:,}: "
            "tokenizer and weights do not belong together"
        )
    return load_model(adopted.folder, device), tokenizer
