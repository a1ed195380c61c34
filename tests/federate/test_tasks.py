"""Exact match, F1 and accuracy inside the silo: a tiny model learns a task, and figures say so."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from federate.tasks import exact_match, task_metrics, token_f1
from pretrain.model import Compute, ModelShape, build_model, pick_device
from pretrain.packing import pack
from pretrain.records import Document, Record
from pretrain.tokenizer import train_tokenizer
from pretrain.train import make_optimizer, schedule, train
from tests.conftest import make_text

CPU = Compute(threads=1, dtype="fp32")
CONTEXT = 64
HERE = [
    "ba",
    "koru",
    "rine",
    "tusal",
    "mor",
    "vide",
    "nalo",
    "pe",
    "zim",
    "quato",
    "lefi",
    "hask",
    "duno",
    "wex",
]
THERE = [
    "red",
    "blue",
    "green",
    "white",
    "grey",
    "pink",
    "brown",
    "black",
    "gold",
    "plum",
    "teal",
    "amber",
    "rust",
    "jade",
]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    pick_device(CPU)


def translate(first: int, second: int) -> Record:
    """Word for word into another made-up language."""
    prompt, completion = f"{HERE[first]} {HERE[second]} means", f" {THERE[first]} {THERE[second]}"
    return Record((("prompt", prompt), ("completion", completion)))


def judge(first: int, second: int) -> Record:
    """A chat with three answers, as frequent as 3 : 4 : 7: a closed set; one begins another."""
    answer = "high" if first < 3 else "mid" if first < 7 else "high and above"
    asked = f"{HERE[first]} {HERE[second]}"
    return Record((("system", "Few?"), ("user", asked), ("assistant", answer)))


def split(make) -> tuple[list[Record], list[Record]]:  # type: ignore[no-untyped-def]
    records = [make(first, second) for first in range(14) for second in range(14)]
    order = np.random.default_rng(0).permutation(len(records))
    return [records[i] for i in order[:160]], [records[i] for i in order[160:]]


def fresh(records: Sequence[Record]) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    texts = [" ".join(text for _, text in record.turns) for record in records]
    texts.append("System:\nUser:\nAssistant:\n\n " * 20)
    tokenizer = train_tokenizer(texts, 360, CONTEXT)
    shape = ModelShape(hidden=64, layers=2, heads=2, kv_heads=1, intermediate=128, vocab=360)
    return build_model(shape, CONTEXT, int(tokenizer.eos_token_id), 0), tokenizer


def learn(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    records: Sequence[Document],
    steps: int,
) -> None:
    data = pack(tokenizer, records, CONTEXT)
    batches = (data.batch(0, step, 4) for step in range(steps))
    lr = schedule(3e-3, steps, 5, 0.3)
    for _ in train(model, make_optimizer(model, 0.0), batches, lr, CPU):
        pass


@pytest.mark.slow
def test_a_model_trained_on_prompts_and_completions_learns_the_task() -> None:
    known, unseen = split(translate)
    model, tokenizer = fresh(known + unseen)
    before = task_metrics(model, tokenizer, known, unseen, CPU, 50)
    assert before["exact_match"] < 0.1
    assert "accuracy" not in before, "160 different answers are no closed set"
    learn(model, tokenizer, known, 220)
    after = task_metrics(model, tokenizer, known, unseen, CPU, 50)
    assert after["records"] == len(unseen)
    assert after["exact_match"] > 0.8
    assert after["token_f1"] >= after["exact_match"]
    assert task_metrics(model, tokenizer, known, unseen, CPU, 50) == after
    few = task_metrics(model, tokenizer, known, unseen, CPU, 7)
    assert few["records"] == 7


@pytest.mark.slow
def test_a_chat_with_few_answers_is_judged_by_likelihood() -> None:
    known, unseen = split(judge)
    model, tokenizer = fresh(known + unseen)
    before = task_metrics(model, tokenizer, known, unseen, CPU, 36)
    learn(model, tokenizer, known, 200)
    after = task_metrics(model, tokenizer, known, unseen, CPU, 36)
    assert after["labels"] == before["labels"] == 3
    assert after["majority_accuracy"] == before["majority_accuracy"] < 0.7
    assert before["accuracy"] < 0.7
    assert after["accuracy"] > 0.9
    assert after["exact_match"] > 0.9


@pytest.fixture(scope="module")
def parrot() -> tuple[PreTrainedModel, PreTrainedTokenizerFast, list[Record]]:
    """A model without weights: every token is as likely, so the shorter label wins."""
    known, _ = split(judge)
    model, tokenizer = fresh(known)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model, tokenizer, known


def test_a_label_is_chosen_with_its_end(parrot) -> None:  # type: ignore[no-untyped-def]
    model, tokenizer, _ = parrot
    answers = ["ba", "ba koru rine tusal"] * 10
    records = [
        Record((("prompt", f"{HERE[n % 14]} {n} is"), ("completion", f" {answer}")))
        for n, answer in enumerate(answers)
    ]
    found = task_metrics(model, tokenizer, records, records, CPU, 20)
    assert found["labels"] == 2
    assert found["accuracy"] == found["majority_accuracy"] == 0.5
    shorter = task_metrics(model, tokenizer, records, records[::2], CPU, 20)
    assert shorter["accuracy"] == 1.0


def test_plain_text_has_no_task(parrot) -> None:  # type: ignore[no-untyped-def]
    model, tokenizer, known = parrot
    texts = [make_text(1, 30)]
    assert task_metrics(model, tokenizer, texts, texts, CPU, 5) == {}
    assert task_metrics(model, tokenizer, known, [], CPU, 5) == {}
    mixed = task_metrics(model, tokenizer, [*texts, *known], [*texts, known[0]], CPU, 5)
    assert mixed["records"] == 1


def test_batches_padding_and_cache_give_what_a_plain_loop_gives() -> None:
    """Prompts of all lengths, some longer than the context; the truths are the loop's answers."""
    known, _ = split(translate)
    model, tokenizer = fresh(known)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6 if parameter.ndim == 2 else 1)  # so that every token has its say
    end = int(tokenizer.eos_token_id)
    longest = 1 + max(len(tokenizer(record.turns[1][1])["input_ids"]) for record in known)
    asked = []
    for number in range(20):
        prompt = f"{make_text(number, 1 + 4 * number)} {HERE[number % 14]}"
        ids = [end, *tokenizer(prompt)["input_ids"][-(CONTEXT - longest - 1) :]]
        first = len(ids)
        while len(ids) < first + longest and (ids[-1] != end or len(ids) == first):
            with torch.inference_mode():
                ids.append(int(model.eval()(torch.tensor([ids])).logits[0, -1].argmax()))
        said = tokenizer.decode(ids[first:], skip_special_tokens=True)
        asked.append(Record((("prompt", prompt), ("completion", said))))
    assert len({record.turns[1] for record in asked}) > 15
    assert task_metrics(model, tokenizer, known, asked, CPU, 20)["exact_match"] == 1.0


@pytest.mark.parametrize(
    ("said", "truth", "same", "f1"),
    [
        (" The red, house!\n", "red house", True, 1.0),
        ("red house", "red car", False, 0.5),
        ("red red", "red", False, 2 / 3),
        ("", "red", False, 0.0),
        ("", "", True, 1.0),
        ("", "A", False, 0.0),
        ("a.", "A", True, 1.0),
        ("B", "A", False, 0.0),
        ("+", "-", False, 0.0),
        ("Grüße", "grüße", True, 1.0),
    ],
)
def test_answers_are_compared_as_for_squad(said: str, truth: str, same: bool, f1: float) -> None:
    assert exact_match(said, truth) is same
    assert token_f1(said, truth) == pytest.approx(f1)
