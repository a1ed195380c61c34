"""Blocks: plain text as ever, to the bit; of records only the answers are targets, each once."""

import hashlib
import math
from collections import Counter

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from commonroot.errors import DataError
from pretrain.evaluate import bits_per_byte, eval_set
from pretrain.model import Compute, build_model
from pretrain.packing import IGNORE, Encoded, lay_out, pack
from pretrain.records import Document, Record, document_of, parts, question
from pretrain.tokenizer import give_chat_template, train_tokenizer
from pretrain.train import gradients
from tests.conftest import make_text, tiny_pretrain

FP32 = Compute(threads=1, dtype="fp32")

END = 256
CHAT = (("system", "Be ko."), ("user", "ba?"), ("assistant", "ri ne."), ("user", "tu?"))
SHORT = Record((("prompt", "ba ko ri "), ("completion", "sal mor")))


class Bytes:
    """A tokenizer whose tokens are bytes."""

    eos_token_id = END

    def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [list(text.encode()) for text in texts]}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([make_text(seed, 200) for seed in range(4)], 400, 64)


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return build_model(tiny_pretrain().model, 64, int(tokenizer.eos_token_id), 0)


def prose(seed: int, words: int) -> str:
    """Made of hashes, so that no library's random numbers can change it."""
    found = [hashlib.sha256(f"{seed} {n}".encode()).hexdigest()[: 2 + n % 6] for n in range(words)]
    return " ".join(word + ("." if n % 9 == 8 else "") for n, word in enumerate(found))


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


def targets(y_BT: np.ndarray) -> list[int]:
    return [int(token) for token in y_BT.ravel() if token != IGNORE]


def test_plain_text_gives_the_batches_that_it_always_gave() -> None:
    """Digests of what the code before records existed made of the same texts."""
    texts = [prose(seed, 40 + seed) for seed in range(9)]
    data = pack(Bytes(), texts, 48)
    assert (len(data), digest(data.stream_N)) == (46, "81ec66527e4d909e")
    assert [digest(*data.batch(3, step, 4)) for step in (0, 7, 20)] == [
        "613bad703732e9eb",
        "d62a16be7d08fca2",
        "05030065b20406dc",
    ]
    assert data.target_N is None
    few = eval_set(Bytes(), texts, 48, 5)
    assert (few.bytes, digest(few.blocks.stream_N)) == (219, "453173b55149a0c0")
    assert eval_set(Bytes(), texts, 48).bytes == 2185


def test_prompts_are_no_targets_and_stand_before_their_completions(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    records = [
        document_of({"prompt": f"ba {n}", "completion": f" ko {n * n}"})[0] for n in range(9)
    ]
    data = pack(tokenizer, [r for r in records if r], 32)
    x_BT, y_BT = data.at(list(range(len(data))))
    said = tokenizer.decode(targets(y_BT))
    assert Counter(said.split("<|endoftext|>")) == Counter(
        [f" ko {n * n}" for n in range(9)] + [""]
    )
    seen = "".join(tokenizer.batch_decode(x_BT))
    assert all(f"<|endoftext|>ba {n} ko {n * n}" in seen for n in range(9))
    assert data.targets == len(targets(y_BT))
    assert not data.counts


def test_the_gradient_is_that_of_the_completion_alone(
    tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel
) -> None:
    prompt, completion = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for _, text in SHORT.turns
    )
    end = int(tokenizer.eos_token_id)
    ids = torch.tensor([[end, *prompt, *completion, end]])
    losses = torch.nn.functional.cross_entropy(
        model(input_ids=ids[:, :-1]).logits[0], ids[0, 1:], reduction="none"
    )
    wanted = torch.autograd.grad(losses[len(prompt) :].mean(), list(model.parameters()))
    data = pack(tokenizer, [SHORT], 64)
    step = gradients(model, *data.at([0]), FP32, clip=1e9)
    assert step.tokens == len(completion) + 1
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)
    model.zero_grad(set_to_none=True)


def test_bits_per_byte_are_those_of_the_answers_bytes(tokenizer: PreTrainedTokenizerFast) -> None:
    """A uniform model pays log2 V bits a target token; ends and prompts have no part in it."""
    flat = build_model(tiny_pretrain().model, 64, 0, 0)
    with torch.no_grad():
        for parameter in flat.parameters():
            parameter.zero_()
    chat = Record((*CHAT, ("assistant", "Grüße den lo.")))
    answers, text = ["sal mor", "ri ne.", "Grüße den lo."], make_text(3, 90)
    tokens = [tokenizer(a, add_special_tokens=False)["input_ids"] for a in [*answers, text]]
    size = sum(len(a.encode()) for a in [*answers, text])
    expected = sum(map(len, tokens)) * math.log2(len(tokenizer)) / size
    for documents in ([SHORT, chat, text], [text, chat, SHORT], [chat, text, SHORT]):
        data = eval_set(tokenizer, documents, 64)
        assert data.bytes == size
        assert bits_per_byte(flat, data, FP32) == pytest.approx(expected, rel=1e-4)


def test_a_record_crosses_no_border_and_every_target_is_one_once() -> None:
    """Random lengths, plain text between; ids tell the document and the place in it."""
    rng = np.random.default_rng(0)
    for context in (16, 33):
        documents, wanted = [], Counter[int]()
        for number in range(60):
            prompt, answer = int(rng.integers(1, 2 * context)), int(rng.integers(1, context))
            ids = [1000 * (number + 1) + place for place in range(prompt + answer)]
            marks = [place >= prompt for place in range(prompt + answer)]
            plain = rng.random() < 0.2
            documents.append(Encoded(ids, None if plain else marks, 0))
            wanted.update(ids if plain else ids[prompt:])
        data = lay_out(documents, END, context)
        x_BT, y_BT = data.at(list(range(len(data))))
        found = Counter(targets(y_BT))
        ends = found.pop(END)
        assert found == wanted
        assert 59 <= ends <= 60
        for x_T, y_T in zip(x_BT.tolist(), y_BT.tolist(), strict=True):
            for place, token in enumerate(y_T):
                if token in (IGNORE, END):
                    continue
                one = documents[token // 1000 - 1]
                if one.targets is None:
                    continue
                before, at = x_T[: place + 1], token % 1000
                if len(one.ids) + 2 <= context:
                    assert before[-at:] == one.ids[:at], "the whole prompt is seen"
                    assert before[-at - 1] == END
                else:
                    held = min(at, context // 2 - 1)
                    assert before[len(before) - held :] == one.ids[at - held : at]


def test_records_that_do_not_fit_are_counted() -> None:
    def record(prompt: int, answer: int) -> Encoded:
        return Encoded([7] * prompt + [8] * answer, [False] * prompt + [True] * answer, 0)

    data = lay_out([record(3, 4), record(40, 4), record(10, 30)], END, 16)
    assert data.counts == {"longer_than_context": 2, "prompt_fills_context": 1}
    assert data.targets == 4 + 4 + 30 + 3
    assert (data.stream_N[::16] == END).all(), "each window is led like a document"


def test_a_chat_s_targets_are_the_assistant_s_turns(tokenizer: PreTrainedTokenizerFast) -> None:
    chat = Record((*CHAT, ("assistant", " sal \n")))
    assert parts(tokenizer, chat) == [
        ("<|endoftext|>System:\nBe ko.\n\nUser:\nba?\n\nAssistant:\n", False),
        ("ri ne.<|endoftext|>", True),
        ("\n\nUser:\ntu?\n\nAssistant:\n", False),
        ("sal<|endoftext|>", True),
    ]
    data = pack(tokenizer, [chat, chat], 64)
    y_BT = data.at(list(range(len(data))))[1]
    assert tokenizer.decode(targets(y_BT)) == "ri ne.<|endoftext|>sal<|endoftext|>" * 2


def test_a_user_s_prompt_is_what_the_model_was_trained_on(
    tokenizer: PreTrainedTokenizerFast, tmp_path
) -> None:
    """The released tokenizer carries the template: its chat prompt is a prefix of training."""
    give_chat_template(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    asked = [{"role": "user", "content": "ba ko?"}]
    ids = loaded.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    chat = Record((("user", "ba ko?"), ("assistant", "ri")))
    assert pack(loaded, [chat], 64).at([0])[0][0, : len(ids)].tolist() == ids
    tokenizer.chat_template = None


FORGETFUL = (
    "{% for m in messages %}[{{ m.role }}]{{ '<think></think>' if loop.last and m.role == "
    "'assistant' else '' }}{{ m.content }}[end]\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
STRICT = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + (
    FORGETFUL
)

SHOUTING = FORGETFUL.replace("m.content", "m.content | upper")
CENSORING = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content | replace('sal', '***') }}[end]\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
UNPROMPTED = FORGETFUL.replace("[assistant]{%", "[bot]{%")


def test_the_tokenizer_s_own_template_is_used(tokenizer: PreTrainedTokenizerFast) -> None:
    """One that shows earlier answers otherwise: those are no targets, the last one is."""
    chat = Record((*CHAT, ("assistant", "sal")))
    try:
        tokenizer.chat_template = FORGETFUL
        before = "[system]Be ko.[end]\n[user]ba?[end]\n[assistant]ri ne.[end]\n[user]tu?[end]\n"
        assert parts(tokenizer, chat) == [
            (before + "[assistant]", False),
            ("<think></think>sal[end]", True),
        ]
        asked = question(tokenizer, chat)
        assert asked
        assert (asked.answer, asked.stop) == ("sal", "[end]")
        assert asked.prompt.endswith("[assistant]<think></think>")
    finally:
        tokenizer.chat_template = None


@pytest.mark.parametrize("template", [STRICT, SHOUTING, CENSORING, UNPROMPTED])
def test_chats_that_the_template_refuses_are_counted(
    tokenizer: PreTrainedTokenizerFast, template: str
) -> None:
    """It raises, it changes answers, or its generation prompt is not what stands there."""
    chat: Document = Record((*CHAT, ("assistant", "sal")))
    try:
        tokenizer.chat_template = template
        assert question(tokenizer, Record((*CHAT, ("assistant", "sal")))) is None
        data = pack(tokenizer, [chat, SHORT, chat], 64)
        assert data.counts == {"template_refused": 2}
        assert eval_set(tokenizer, [chat, SHORT], 64).bytes == len("sal mor")
        for use in (pack, eval_set):
            with pytest.raises(DataError, match="template refuses every chat"):
                use(tokenizer, [chat], 64)
    finally:
        tokenizer.chat_template = None


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"text": " a \n"}, "a"),
        ({"text": "\ud800"}, "not_unicode"),
        ({"text": 3}, "no_text"),
        ({}, "no_text"),
        ({"prompt": "2 + 2", "completion": "4\n"}, (("prompt", "2 + 2\n"), ("completion", "4"))),
        ({"prompt": "2 +", "completion": " 2"}, (("prompt", "2 +"), ("completion", " 2"))),
        ({"prompt": "p", "completion": None}, "no_completion"),
        ({"prompt": "p", "completion": " "}, "no_completion"),
        ({"prompt": 1, "completion": "c"}, "no_prompt"),
        ({"completion": "c"}, "no_prompt"),
        ({"prompt": "about a", "text": "a"}, "a"),
        ({"prompt": "p", "completion": "\udc00"}, "not_unicode"),
        ({"messages": []}, "no_answer"),
        ({"messages": "hello"}, "bad_messages"),
        ({"messages": [{"role": "user", "content": None}]}, "bad_messages"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "bad_messages"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "bad_messages"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no_answer"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "no_answer"),
    ],
)
def test_rows_become_documents_or_a_reason(row: dict[str, object], found: object) -> None:
    document, reason = document_of(row)
    if document is None:
        assert reason == found
    else:
        assert (document if isinstance(document, str) else document.turns) == found


def test_what_follows_the_last_answer_is_left_out() -> None:
    said = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", " ")]
    chat, _ = document_of({"messages": [{"role": r, "content": c} for r, c in said]})
    assert chat == Record((("user", "a"), ("assistant", "b")))
