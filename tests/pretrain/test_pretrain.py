"""Pretraining: reproducible to the bit, resumes, stock checkpoint, honest bits per byte."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from commonroot.artifact import load_artifact
from commonroot.errors import ArtifactError, ConfigError, TrainingError
from commonroot.progress import MetricsLog
from pretrain import model as model_module
from pretrain import stage
from pretrain.distributed import World
from pretrain.evaluate import bits_per_byte, eval_set, sample
from pretrain.loop import fit
from pretrain.model import (
    Compute,
    ModelShape,
    build_model,
    cores,
    in_order,
    load_model,
    load_tokenizer,
)
from pretrain.moments import load_moments, prime
from pretrain.packing import IGNORE, Blocks
from pretrain.train import gradients, make_optimizer, schedule, train
from tests.conftest import build_corpus, make_text, tiny_pretrain

CPU = Compute(threads=1, dtype="fp32")


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_it_learns_and_the_checkpoint_is_stock(tiny_run: Path) -> None:
    base = load_artifact(tiny_run / "3-base", "base")
    assert base.metrics["public_bpb"] < base.metrics["public_bpb_at_start"] - 0.3
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base.path, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(base.path, local_files_only=True)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert tokenizer.decode(tokenizer("Grüße, 世界 \n x")["input_ids"]) == "Grüße, 世界 \n x"


def test_llama_is_the_other_family(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = build_model(ModelShape(family="llama", hidden=32, heads=2, layers=1), 64, 0, 0)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    assert type(loaded).__name__ == "LlamaForCausalLM"
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    data = Blocks(np.arange(1000, dtype=np.int64) % 300, 64)
    batches = [data.batch(0, 0, 2)] * 4
    losses = [
        step.loss for step in train(model, make_optimizer(model, 0.0), batches, lambda _: 1e-2, CPU)
    ]
    assert losses[-1] < losses[0] - 0.1


def test_same_seed_same_bits_other_seed_other_bits(tiny_run: Path, tmp_path: Path) -> None:
    build_corpus(tmp_path, range(30))
    again = stage.run(tiny_pretrain(), tmp_path)
    assert weights(again.path) == weights(tiny_run / "3-base")
    assert again.digest == load_artifact(tiny_run / "3-base", "base").digest
    other = stage.run(tiny_pretrain(seed=1), tmp_path)
    assert weights(other.path) != weights(tiny_run / "3-base")


def test_a_stopped_run_resumes_to_the_same_bits(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_corpus(tmp_path, range(30))
    real, calls = MetricsLog.write, []

    def stop(self: object, **fields: object) -> None:
        calls.append(fields)
        if len(calls) == 8:
            raise KeyboardInterrupt
        real(self, **fields)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            stage.run(tiny_pretrain(), tmp_path)
    assert (tmp_path / "3-base.partial" / "checkpoints").is_dir()
    done = stage.run(tiny_pretrain(), tmp_path)
    whole = load_artifact(tiny_run / "3-base", "base")
    assert done.digest == whole.digest
    assert weights(done.path) == weights(whole.path)
    assert not (done.path / "checkpoints").exists()


def test_adopting_a_checkpoint_keeps_it_and_marks_its_provenance(
    tiny_run: Path, tmp_path: Path
) -> None:
    build_corpus(tmp_path, range(30))
    adopted = stage.run(tiny_pretrain(base=str(tiny_run / "3-base")), tmp_path)
    assert "unknown" in adopted.metrics["provenance"]
    ours, theirs = load_model(adopted.path), load_model(tiny_run / "3-base")
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)
    with pytest.raises(ArtifactError, match="no transformers checkpoint"):
        stage.run(tiny_pretrain(base=str(tmp_path / "2-corpus")), tmp_path)


def test_bits_per_byte_of_a_model_that_knows_nothing(tiny_run: Path) -> None:
    """Uniform over V tokens: log2 V bits a token, whatever the text is cut into."""
    model, tokenizer = load_model(tiny_run / "3-base"), load_tokenizer(tiny_run / "3-base")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    texts = [make_text(1, 120), make_text(2, 35)]
    tokens = sum(len(tokenizer(text)["input_ids"]) for text in texts)
    expected = tokens * math.log2(len(tokenizer)) / sum(len(t.encode()) for t in texts)
    for context in (16, 64):
        data = eval_set(tokenizer, texts, context)
        assert bits_per_byte(model, data, CPU) == pytest.approx(expected, rel=1e-4)


def test_every_target_is_seen_once_an_epoch_in_an_order_of_seed_and_step() -> None:
    data = Blocks(np.arange(1, 331, dtype=np.int64), 32)
    assert len(data) == 11
    seen = np.concatenate([data.batch(5, step, 1)[1].ravel() for step in range(11)])
    assert sorted(seen[seen != IGNORE]) == list(range(2, 331))
    assert (data.batch(5, 3, 4)[0] == data.batch(5, 3, 4)[0]).all()
    assert (data.batch(5, 3, 4)[0] != data.batch(6, 3, 4)[0]).any()


def test_a_loss_that_is_not_finite_stops_with_the_step() -> None:
    model = build_model(tiny_pretrain().model, 64, 0, 0)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    data = Blocks(np.arange(200, dtype=np.int64), 64)
    with pytest.raises(TrainingError, match=r"step 0.*lower the lr"):
        list(train(model, make_optimizer(model, 0.0), [data.batch(0, 0, 1)], lambda _: 1e-3, CPU))


def test_schedule_rises_holds_and_falls() -> None:
    lr = schedule(1.0, 100, 9, 0.5)
    rates = [lr(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[20] == rates[45] == 1.0
    assert rates[49:] == sorted(rates[49:], reverse=True)
    assert 0 < rates[99] < 0.05


def test_samples_are_reproducible(tiny_run: Path) -> None:
    model, tokenizer = load_model(tiny_run / "3-base"), load_tokenizer(tiny_run / "3-base")
    said = [sample(model, tokenizer, "Ba", 8, seed) for seed in (0, 0, 1)]
    assert said[0] == said[1] != said[2]
    assert sample(model, tokenizer, "Ba", 8, temperature=0.0).startswith("Ba")


def test_an_impossible_shape_is_one_line() -> None:
    with pytest.raises(ConfigError, match="multiple of heads"):
        build_model(ModelShape(hidden=100, heads=3), 64, 0, 0)


def test_metrics_hold_every_step_once(tiny_run: Path) -> None:
    lines = (tiny_run / "3-base" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(12))


def test_the_report_says_what_more_tokens_would_give(tiny_run: Path) -> None:
    base = load_artifact(tiny_run / "3-base", "base")
    found = base.metrics["outlook"]
    assert [tokens for tokens, _ in found["points"]][-1] == 12 * 4 * 64
    assert found["low"] <= found["bpb"] <= found["high"]
    assert found["bpb"] <= found["points"][-1][1]
    told = (base.path / "report.html").read_text("utf-8")
    assert f"What 10 times the tokens would give: {found['bpb']:.3f} bits per byte" in told


def test_a_tracker_changes_nothing_of_what_is_made(tiny_run: Path) -> None:
    tracked = tiny_pretrain(tracker="wandb")
    assert not stage.run(tracked, tiny_run).fresh


def test_public_second_moments_go_with_the_base_and_start_the_optimizer(tiny_run: Path) -> None:
    """An empty AdamW's first step is the sign of the gradient; a primed one's has sizes."""
    moments = load_moments(tiny_run / "3-base")
    assert moments is not None
    assert all((value >= 0).all() and torch.isfinite(value).all() for value in moments.values())
    assert load_moments(tiny_run / "2-corpus") is None
    name, batch = "model.layers.0.mlp.up_proj.weight", Blocks(np.arange(200), 64).batch(0, 0, 1)
    sizes = {}
    for start in ("empty", "primed"):
        model = load_model(tiny_run / "3-base")
        weight = dict(model.named_parameters())[name]
        before, optimizer = weight.detach().clone(), make_optimizer(model, 0.0)
        prime(optimizer, model, moments if start == "primed" else None)
        list(train(model, optimizer, [batch], lambda _: 1e-3, CPU))
        sizes[start] = (weight.detach() - before).abs()
    assert float(sizes["empty"].median()) == pytest.approx(1e-3, rel=0.01)
    spread = {start: float(one.std() / one.mean()) for start, one in sizes.items()}
    assert spread["empty"] < 0.05
    assert spread["primed"] > 0.5


@pytest.mark.parametrize("compiled", [False, True])
def test_sums_are_in_order_while_compiled_steps_are_taken_and_no_longer(compiled: bool) -> None:
    with in_order(Compute(compile=compiled)):
        assert torch.are_deterministic_algorithms_enabled() is compiled
    assert not torch.are_deterministic_algorithms_enabled()


def test_gradients_of_several_passes_add_up_to_that_of_one() -> None:
    model = build_model(ModelShape(hidden=32, layers=1, heads=2, vocab=300), 16, 0, seed=0).train()
    tokens_BT = np.random.default_rng(0).integers(0, 300, (5, 17))
    x_BT, y_BT = tokens_BT[:, :-1].copy(), tokens_BT[:, 1:].copy()
    y_BT[1, 4:] = IGNORE  # a pass with fewer targets counts for less
    seen = []
    for passes in (1, 2, 5):
        model.zero_grad()
        step = gradients(model, x_BT, y_BT, Compute(dtype="fp32"), passes=passes)
        seen.append((step, torch.cat([p.grad.flatten() for p in model.parameters()])))
    for step, gradient in seen[1:]:
        assert step.tokens == seen[0][0].tokens == 5 * 16 - 12
        assert step.loss == pytest.approx(seen[0][0].loss, rel=1e-6)
        torch.testing.assert_close(gradient, seen[0][1], rtol=1e-4, atol=1e-7)


def test_blocks_are_divided_among_processes_and_passes() -> None:
    section = tiny_pretrain(batch=10, micro_batch=4)
    assert [section.passes(processes) for processes in (1, 2, 4)] == [3, 2, 1]
    assert tiny_pretrain(batch=10).passes() == tiny_pretrain(batch=10, micro_batch=64).passes() == 1


@pytest.mark.parametrize(("quota", "wanted"), [("100000 100000", 1), ("max 100000", 9), ("", 9)])
def test_threads_are_those_of_a_container(
    quota: str, wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(9))
    monkeypatch.setattr(model_module, "QUOTA", tmp_path / "cpu.max")
    if quota:
        (tmp_path / "cpu.max").write_text(quota)
    assert cores() == wanted


def test_the_dial_refuses_several_processes(tmp_path: Path) -> None:
    build_corpus(tmp_path, range(20))
    section = tiny_pretrain(budget="2s", model=ModelShape())
    with pytest.raises(ConfigError, match=r"pretrain\.budget measures one process"):
        stage._lead(section, tmp_path, World(0, 2))


def test_blocks_that_do_not_go_into_even_passes_are_refused(tmp_path: Path) -> None:
    section = tiny_pretrain(batch=3, micro_batch=1)
    model = build_model(section.model, section.context, 0, 0)
    with pytest.raises(ConfigError, match="a multiple of the 2 processes"):
        fit(section, model, None, tmp_path, None, World(0, 2))
