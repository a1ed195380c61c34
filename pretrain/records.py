"""What a model is trained on: plain text, or a record of which only some text is a target.

A record is a prompt with its completion, or a chat. It is kept as (role, text) turns and becomes
text only beside a tokenizer, whose chat template decides how turns look.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pretrain.tokenizer import CHAT_TEMPLATE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Document", "Part", "Question", "Record", "document_of", "parts", "question"]

ROLES = ("system", "user", "assistant", "tool")
Part = tuple[str, bool]
"""Text, and whether it is a target (the loss is on it)."""


@dataclass(frozen=True, order=True)
class Record:
    """A prompt and its completion, or a chat; the last turn is always a target.

    Turns are (role, text): ("prompt", …), ("completion", …), or roles of a chat, of which the
    assistant's turns are the targets.
    """

    turns: tuple[tuple[str, str], ...]

    @property
    def chat(self) -> bool:
        """Whether a chat template renders it; prompt and completion stand as they are."""
        return self.turns[0][0] != "prompt"


Document = str | Record
"""Plain text, every token of which is a target, or a record."""


@dataclass(frozen=True)
class Question:
    """What to complete, the right answer as it would follow, and what ends an answer."""

    prompt: str
    answer: str
    stop: str


def document_of(fields: Mapping[str, Any]) -> tuple[Document | None, str]:
    """The document in one row of a table or of JSON Lines, or None and why there is none.

    `messages` comes before `prompt` + `completion`, and these before `text`.
    """
    if fields.get("messages") is not None:
        return _chat(fields["messages"])
    prompt, completion = fields.get("prompt"), fields.get("completion")
    if prompt is not None and completion is not None:
        return _pair(prompt, completion)
    text = fields.get("text")
    if isinstance(text, str) and text.strip():
        return (text.strip(), "") if _is_unicode(text) else (None, "not_unicode")
    if prompt is not None or completion is not None:
        return None, "no_completion" if completion is None else "no_prompt"
    return None, "no_text"


def parts(tokenizer: "PreTrainedTokenizerBase", record: Record) -> list[Part]:
    """The record's text in order, cut where targets begin and end; the last part is a target.

    Empty if the tokenizer's chat template refuses the chat or does not show the assistant's last
    turn as it is written. An assistant's turn that the template shows otherwise once the chat has
    gone on (some leave out earlier reasoning) is no target.
    """
    if not record.chat:
        (_, prompt), (_, completion) = record.turns
        return [(prompt, False), (completion, True)]
    import jinja2

    try:
        return _chat_parts(tokenizer, record)
    except (jinja2.TemplateError, TypeError, ValueError):  # templates raise what they like
        return []


def question(tokenizer: "PreTrainedTokenizerBase", record: Record) -> Question | None:
    """The record's last target as a question; None if the chat template refuses it."""
    rendered = parts(tokenizer, record)
    if not rendered:
        return None
    target, content = rendered[-1][0], record.turns[-1][1].strip()
    # What a template puts before the answer (an empty chain of thought) belongs to the prompt;
    # white space does not: byte-level BPE joins it to the word that follows.
    start = target.index(content)
    before = target[:start] if target[:start].strip() else ""
    end = start + len(content)
    asked = "".join(text for text, _ in rendered[:-1]) + before
    return Question(asked, target[len(before) : end], target[end:])


def _pair(prompt: object, completion: object) -> tuple[Record | None, str]:
    if not (isinstance(prompt, str) and prompt.strip()):
        return None, "no_prompt"
    if not (isinstance(completion, str) and completion.strip()):
        return None, "no_completion"
    if not _is_unicode(prompt + completion):
        return None, "not_unicode"
    # "2 + 2" and "4" must not become "2 + 24".
    seam = "" if prompt[-1].isspace() or completion[0].isspace() else "\n"
    return Record((("prompt", prompt + seam), ("completion", completion.rstrip()))), ""


def _chat(messages: object) -> tuple[Record | None, str]:
    turns = []
    for message in messages if isinstance(messages, list) else [None]:
        role, content = (
            (message.get("role"), message.get("content")) if isinstance(message, dict) else (0, 0)
        )
        if role not in ROLES or not isinstance(content, str):
            return None, "bad_messages"
        if not _is_unicode(content):
            return None, "not_unicode"
        turns.append((role, content))
    while turns and not (turns[-1][0] == "assistant" and turns[-1][1].strip()):
        turns.pop()  # nothing is learnt from what follows the last answer
    if len(turns) < 2:
        return None, "no_answer"
    return Record(tuple(turns)), ""


def _is_unicode(text: str) -> bool:
    """JSON can hold halves of surrogate pairs, which no UTF-8 can."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _chat_parts(tokenizer: "PreTrainedTokenizerBase", record: Record) -> list[Part]:
    whole = _render(tokenizer, record.turns).rstrip()
    found: list[Part] = []
    at = 0
    for number, (role, content) in enumerate(record.turns):
        if role != "assistant" or not content.strip() or number == 0:
            continue
        asked = _render(tokenizer, record.turns[:number], answer_follows=True)
        answered = _render(tokenizer, record.turns[: number + 1])
        end = _agree(whole, answered)
        if whole.startswith(asked) and content.strip() in whole[len(asked) : end]:
            found += [(whole[at : len(asked)], False), (whole[len(asked) : end], True)]
            at = end
    return found if at == len(whole) else []


def _agree(left: str, right: str) -> int:
    """Length of the common start."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))


def _render(
    tokenizer: "PreTrainedTokenizerBase",
    turns: tuple[tuple[str, str], ...],
    answer_follows: bool = False,
) -> str:
    render: Any = tokenizer.apply_chat_template
    messages = [{"role": role, "content": content} for role, content in turns]
    template = tokenizer.chat_template or CHAT_TEMPLATE
    return str(
        render(
            messages,
            chat_template=template if isinstance(template, str) else None,
            tokenize=False,
            add_generation_prompt=answer_follows,
        )
    )
