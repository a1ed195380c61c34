"""How well a model does what a client's records ask, measured inside the silo: figures only.

Exact match and token F1 of greedy completions, normalised as for SQuAD (Rajpurkar et al. 2016,
https://arxiv.org/abs/1606.05250); where the client's training records know only a few different
answers, also accuracy, the answer chosen by likelihood.

Shape suffixes: B records of a batch, T tokens, V vocabulary.
"""

import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pretrain.model import Compute, autocast
from pretrain.packing import end_of_text
from pretrain.records import Document, Question, Record, question

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["exact_match", "task_metrics", "token_f1"]

BATCH = 16
MOST_LABELS = 20
USES_OF_A_LABEL = 4
"""Answers are a closed set if training records use each at least this often on the mean."""
LONGEST_ANSWER = 128
"""Tokens that are generated at most."""

Rows = list[list[int]]


def task_metrics(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    train: Sequence[Document],
    test: Sequence[Document],
    compute: Compute,
    most: int,
) -> dict[str, float]:
    """Figures over at most `most` records, evenly spread over those of `test`; {} for plain text.

    `records`: how many; `exact_match`, `token_f1`: shares from 0 to 1; and for a closed set of
    answers in `train` (2 to 20) `labels`: how many, `accuracy`, and `majority_accuracy`: what
    always giving the answer most frequent in `train` would reach. Of a chat the last answer is
    asked for. Generates no more tokens than the longest answer in `train` has.
    """
    learnt = [document for document in train if isinstance(document, Record)]
    asked = [document for document in test if isinstance(document, Record)]
    asked = [asked[place * len(asked) // most] for place in range(min(most, len(asked)))]
    questions = [q for q in (question(tokenizer, record) for record in asked) if q]
    if not questions:
        return {}
    task = _Task(model, tokenizer, compute, tuple(questions))
    truths = [q.answer.strip() for q in questions]
    model.eval()
    said = task.complete(_longest_answer(tokenizer, learnt))
    pairs = list(zip(said, truths, strict=True))
    figures = {
        "records": float(len(pairs)),
        "exact_match": sum(exact_match(a, b) for a, b in pairs) / len(pairs),
        "token_f1": sum(token_f1(a, b) for a, b in pairs) / len(pairs),
    }
    labels = _closed_set(tokenizer, learnt)
    if labels:
        chosen = task.choose(list(labels.values()))
        names = list(labels)
        figures["labels"] = float(len(labels))
        figures["accuracy"] = _share(names[c] == t for c, t in zip(chosen, truths, strict=True))
        figures["majority_accuracy"] = _share(names[0] == truth for truth in truths)
    return figures


def exact_match(said: str, truth: str) -> bool:
    """Whether the normalised texts are the same."""
    return _words(said) == _words(truth)


def token_f1(said: str, truth: str) -> float:
    """Harmonic mean of precision and recall over the normalised words."""
    ours, theirs = _words(said), _words(truth)
    same = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * same / (len(ours) + len(theirs)) if same else float(ours == theirs)


@dataclass(frozen=True)
class _Task:
    """One model and the questions that it is asked."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    compute: Compute
    questions: tuple[Question, ...]

    def complete(self, most_tokens: int) -> list[str]:
        """Greedy completions, in the order of the questions."""
        most_tokens = min(most_tokens, LONGEST_ANSWER, self._context // 2)
        prompts = self._prompts(most_tokens)
        # Records of one length stand together: less padding.
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        said = [""] * len(prompts)
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            texts = self._generate([prompts[place] for place in places], most_tokens)
            for place, text in zip(places, texts, strict=True):
                said[place] = text
        return said

    def choose(self, labels: list[Question]) -> list[int]:
        """For each question the label of the highest likelihood, the stop after it included."""
        import torch

        half = self._context // 2
        ends = [
            [*self._ids([label.answer])[0][: half - 1], self._stop(label.stop)] for label in labels
        ]
        prompts = self._prompts(max(map(len, ends)))
        rows = [(prompt, end) for prompt in prompts for end in ends]
        scores: list[float] = []
        for start in range(0, len(rows), BATCH):
            scores += self._log_likelihoods(rows[start : start + BATCH])
        table = torch.tensor(scores, dtype=torch.float64).reshape(len(prompts), len(ends))
        return [int(best) for best in table.argmax(dim=1)]

    @property
    def _context(self) -> int:
        return int(self.model.config.max_position_embeddings)

    def _prompts(self, room: int) -> Rows:
        """Tokens of the prompts, led by end-of-text as in training; a long one loses its start."""
        end = end_of_text(self.tokenizer)
        most = self._context - room - 1
        rows = self._ids([q.prompt for q in self.questions])
        rows = [row[1:] if row[:1] == [end] else row for row in rows]
        return [[end, *row[max(0, len(row) - most) :]] for row in rows]

    def _ids(self, texts: list[str]) -> Rows:
        found: Any = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        rows: Rows = found
        return rows

    def _stop(self, after: str) -> int:
        """The token that ends an answer: the template's, if it has one, else end-of-text."""
        first = self._ids([after])[0][:1]
        special = set(self.tokenizer.all_special_ids)
        return first[0] if first and first[0] in special else end_of_text(self.tokenizer)

    def _generate(self, prompts: Rows, most_tokens: int) -> list[str]:
        import torch

        end, width = end_of_text(self.tokenizer), max(map(len, prompts))
        stops = {end, *map(self._stop, {q.stop for q in self.questions})}
        device = next(self.model.parameters()).device
        ids_BT = torch.tensor([[end] * (width - len(row)) + row for row in prompts])
        mask_BT = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
        generate: Any = self.model.generate
        with autocast(self.compute, device):
            out_BT = generate(
                input_ids=ids_BT.to(device),
                attention_mask=mask_BT.to(device),
                max_new_tokens=most_tokens,
                do_sample=False,
                num_beams=1,
                temperature=1.0,
                top_k=50,
                top_p=1.0,
                repetition_penalty=1.0,
                use_cache=True,
                pad_token_id=end,
                eos_token_id=sorted(stops),
            )
        texts: list[str] = self.tokenizer.batch_decode(out_BT[:, width:], skip_special_tokens=True)
        return texts

    def _log_likelihoods(self, rows: list[tuple[list[int], list[int]]]) -> list[float]:
        """Summed log-probability (nats) of each continuation after its prompt."""
        import torch
        from torch.nn.functional import cross_entropy

        device = next(self.model.parameters()).device
        width = max(len(prompt) + len(more) for prompt, more in rows) - 1
        x_BT = torch.zeros((len(rows), width), dtype=torch.int64)
        y_BT = torch.full((len(rows), width), -100)
        for row, (prompt, more) in enumerate(rows):
            x_BT[row, : len(prompt) + len(more) - 1] = torch.tensor((prompt + more)[:-1])
            y_BT[row, len(prompt) - 1 : len(prompt) + len(more) - 1] = torch.tensor(more)
        with torch.inference_mode(), autocast(self.compute, device):
            logits_BTV = self.model(input_ids=x_BT.to(device), use_cache=False).logits
            losses_BT = cross_entropy(
                logits_BTV.float().transpose(1, 2), y_BT.to(device), reduction="none"
            )
        return [-float(total) for total in losses_BT.double().sum(dim=1)]


def _closed_set(
    tokenizer: "PreTrainedTokenizerBase", records: Sequence[Record]
) -> dict[str, Question]:
    """Label -> a question with that answer, most frequent label first; {} if the set is open."""
    uses = Counter(record.turns[-1][1].strip() for record in records)
    if not 2 <= len(uses) <= MOST_LABELS or len(records) < USES_OF_A_LABEL * len(uses):
        return {}
    examples = {record.turns[-1][1].strip(): record for record in reversed(records)}
    ranked = sorted(uses, key=lambda label: (-uses[label], label))
    found = {label: question(tokenizer, examples[label]) for label in ranked}
    return {label: example for label, example in found.items() if example}


def _longest_answer(tokenizer: "PreTrainedTokenizerBase", records: Sequence[Record]) -> int:
    """Tokens of the longest answer, its end included."""
    answers = sorted({record.turns[-1][1] for record in records}) or [""]
    found: Any = tokenizer(answers, add_special_tokens=False, verbose=False)["input_ids"]
    return max(map(len, found)) + 1


def _words(text: str) -> list[str]:
    """Words in lower case without punctuation and articles; all words if nothing else is left.

    (SQuAD would leave nothing of an answer that is just "A", and call any silence right.)
    """
    plain = "".join(char for char in text.lower() if char not in string.punctuation)
    words = re.sub(r"\b(a|an|the)\b", " ", plain).split()
    return words or plain.split() or text.split()


def _share(flags: Iterator[bool]) -> float:
    found = list(flags)
    return sum(found) / len(found)
