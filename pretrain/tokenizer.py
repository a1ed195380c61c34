"""Byte-level BPE, trained on public text only."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

__all__ = ["CHAT_TEMPLATE", "END_OF_TEXT", "give_chat_template", "train_tokenizer"]

END_OF_TEXT = "<|endoftext|>"
CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
{{- "" if loop.first else "\\n\\n" -}}
{{- message["role"] | capitalize + ":\\n" + message["content"] | trim -}}
{{- eos_token if message["role"] == "assistant" else "" -}}
{%- endfor -%}
{{- "\\n\\nAssistant:\\n" if add_generation_prompt else "" -}}
"""
"""Jinja, for tokenizers without a template: `User:`, `Assistant:` on lines of their own, and the
end-of-text token after each answer. Roles are words because a base trained on public text has no
tokens for them."""


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, context: int
) -> "PreTrainedTokenizerFast":
    """Train a GPT-2-style byte-level BPE (any UTF-8 text can be encoded, nothing is unknown).

    `vocab_size` counts the 256 bytes and the end-of-text token; `context` is in tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def give_chat_template(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Let `apply_chat_template` work on a tokenizer that brings no template of its own."""
    if not tokenizer.chat_template:
        tokenizer.chat_template = CHAT_TEMPLATE
