"""What fits: the arithmetic, and the one line that refuses."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, Qwen3Config

from commonroot.cli import main
from commonroot.errors import ConfigError
from federate import estimate
from federate.footprint import check_rounds_fit, rounds_need
from federate.local import LocalSteps
from federate.lora.adapter import LoraConfig
from federate.plan import FederateConfig
from federate.shards import stage as shards
from pretrain import stage
from pretrain.capacity import (
    Needs,
    check_training,
    free_memory,
    needs,
    require,
    say_what_fits,
)
from pretrain.model import build_model
from tests.conftest import build_corpus, make_text, tiny_pretrain

GB = 10**9
ONE_BILLION = Qwen3Config(
    vocab_size=151_936,
    hidden_size=1536,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    intermediate_size=5120,
    tie_word_embeddings=True,
)


def test_a_billion_parameters_can_be_adapted_where_they_cannot_be_trained() -> None:
    found = needs(ONE_BILLION, 256, 1)
    assert 1.0e9 < found.parameters < 1.3e9
    assert found.training > 16 * found.parameters
    assert 4 * found.parameters < found.lora < 6 * found.parameters
    assert found.evaluation < 6 * found.parameters
    line = say_what_fits(found, 10 * GB)
    assert "(does not fit), LoRA of rank 8" in line
    assert line.count("does not fit") == 1
    with pytest.raises(ConfigError, match=r"federate\.lora\.rank = 8") as error:
        require("training", found.training, 10 * GB, found)
    assert "\n" not in str(error.value)
    require("training", found.training, 30 * GB, found)


SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(vocab_size=500, n_layer=2, n_embd=64, n_head=2),
        LlamaConfig(vocab_size=500, intermediate_size=96, **SMALL),
    ],
)
def test_every_family_has_an_estimate_that_grows_with_what_is_asked(
    config: GPT2Config | LlamaConfig,
) -> None:
    found = needs(config, 128, 4)
    assert 4 * found.parameters < found.evaluation
    assert found.lora < found.training
    assert needs(config, 256, 4).training > found.training
    assert needs(config, 128, 8).training > found.training
    assert needs(config, 128, 4, rank=64).lora > found.lora
    assert needs(config, 128, 4, half=True).training < found.training


def test_where_not_even_lora_fits_no_lora_is_advised() -> None:
    with pytest.raises(ConfigError, match="or a smaller model") as error:
        require("training", 9.0 * GB, 1.0 * GB, Needs(10**9, 9e9, 8e9, 7e9, 6e9, 8))
    assert "lora" not in str(error.value)


def test_free_memory_is_that_of_a_machine() -> None:
    assert 10**8 < free_memory(torch.device("cpu")) < 10**14


def test_a_base_that_is_too_large_is_refused_before_it_is_read(
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    build_corpus(tmp_path, range(30))
    monkeypatch.setattr("pretrain.capacity.free_memory", lambda _: 1e6)
    monkeypatch.setattr("pretrain.model.load_model", lambda *_: pytest.fail("it was read"))
    section = tiny_pretrain(base=str(tiny_run / "3-base"))
    with pytest.raises(ConfigError, match=r"takes about .* GB, 0\.0 GB are free"):
        stage.run(section, tmp_path)
    assert "evaluation 0.0 GB (does not fit)" in capsys.readouterr().err


def test_the_plan_says_what_fits_and_refuses_without_measuring(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = tiny_pretrain(base=str(tiny_run / "3-base"))
    assert estimate._what_fits(section, FederateConfig(lora=LoraConfig(rank=4)))[1] == ""
    monkeypatch.setattr("pretrain.capacity.free_memory", lambda _: 1e6)
    line, refusal = estimate._what_fits(section, FederateConfig())
    assert "LoRA of rank 8" in line
    assert "a shorter pretrain.context" in refusal


def test_a_new_model_that_is_too_large_is_refused_and_passes_make_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    section = tiny_pretrain(batch=512)
    config = build_model(section.model, section.context, 0, 0).config
    room = needs(config, section.context, 8).training
    monkeypatch.setattr("pretrain.capacity.free_memory", lambda _: room)
    with pytest.raises(ConfigError, match=r"pretrain\.micro_batch = 1") as error:
        check_training(config, section)
    assert "\n" not in str(error.value)
    check_training(config, tiny_pretrain(batch=512, micro_batch=8))


def rounds(**changes: object) -> float:
    return rounds_need(FederateConfig(**changes), ONE_BILLION, 256)[0]  # type: ignore[arg-type]


def test_rounds_take_more_than_training_and_less_with_factors() -> None:
    plain = rounds()
    assert plain > needs(ONE_BILLION, 256, 4).training
    assert rounds(lora=LoraConfig(rank=8)) < plain * 2 / 3
    assert rounds(local=LocalSteps(svrg=10)) > plain + 9 * 4e9
    assert rounds(workers=2, compute={"threads": 1}) > 1.3 * plain


@pytest.mark.parametrize("rank", [0, 2])
def test_the_command_refuses_rounds_that_do_not_fit(
    rank: int,
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(tiny_run, run_dir)
    table = tmp_path / "private.jsonl"
    rows = [{"client": f"c{n}", "text": make_text(90 + n, 3000)} for n in range(2)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    shards.run(shards.ShardsConfig(table=str(table)), run_dir)
    capsys.readouterr()
    monkeypatch.setattr("pretrain.capacity.free_memory", lambda _: 1e6)
    monkeypatch.setattr(
        "sys.argv",
        ["commonroot", "federate", "--run", str(run_dir), "--set", f"federate.lora.rank={rank}"],
    )
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.err.count("\n") == 1
    assert "free: a shorter pretrain.context, a smaller federate.local.batch" in said.err
    assert ("LoRA of rank 2" in said.err) == bool(rank)
    assert not (run_dir / "5-federated").exists()


def test_only_rounds_that_fit_are_advised() -> None:
    plain, _, found = rounds_need(FederateConfig(), ONE_BILLION, 256)
    with pytest.raises(ConfigError, match=r"train federate\.lora\.rank = 8"):
        require("rounds", plain, plain - 1, found)
    with pytest.raises(ConfigError) as error:
        require("rounds", plain, rounds(lora=LoraConfig(rank=8)) - 1, found)
    assert "lora" not in str(error.value)


def test_rounds_that_do_not_fit_are_refused_in_one_line(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_rounds_fit(FederateConfig(), tiny_run / "3-base")
    monkeypatch.setattr("pretrain.capacity.free_memory", lambda _: 1e6)
    with pytest.raises(ConfigError, match=r"rounds on this base takes? about") as error:
        check_rounds_fit(FederateConfig(), tiny_run / "3-base")
    assert "\n" not in str(error.value)
