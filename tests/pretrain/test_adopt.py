"""Checkpoints of others: any stock family, from a folder or the hub's cache; what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, MistralConfig, PreTrainedConfig

from commonroot.errors import ArtifactError, ConfigError
from pretrain import stage
from pretrain.adopt import adopt, load, settings_of
from pretrain.model import load_tokenizer
from pretrain.tokenizer import train_tokenizer
from tests.conftest import build_corpus, make_text, tiny_pretrain

CPU = torch.device("cpu")
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
OTHERS = {
    "gpt2": GPT2Config(vocab_size=400, n_embd=32, n_layer=1, n_head=2, n_positions=128),
    "mistral": MistralConfig(
        vocab_size=400, num_key_value_heads=1, intermediate_size=64, **SMALL
    ),
}


def checkpoint(folder: Path, config: PreTrainedConfig) -> Path:
    """A stock checkpoint of this family, weights at random, with a tokenizer."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    train_tokenizer([make_text(seed, 200) for seed in range(3)], 400, 128).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", OTHERS)
def test_other_families_are_adopted_with_their_tokenizer(family: str, tmp_path: Path) -> None:
    found = adopt(str(checkpoint(tmp_path, OTHERS[family])))
    assert (found.provenance, found.name) == ("adopted: unknown", "")
    model, tokenizer = load(found, 64, CPU)
    assert model.config.model_type == family
    assert tokenizer("Ba ko")["input_ids"] == load_tokenizer(tmp_path)("Ba ko")["input_ids"]
    with pytest.raises(ConfigError, match=r"= 9000000: this base takes"):
        load(found, 9_000_000, CPU)


def test_a_hub_name_is_found_in_the_cache_and_its_commit_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "models--someone--small"
    checkpoint(cached / "snapshots" / commit, OTHERS["gpt2"])
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    for revision in ("", "main", commit):
        found = adopt("someone/small", revision)
        assert found.provenance == f"adopted: someone/small@{commit}"
        assert load(found, 64, CPU)[0].config.model_type == "gpt2"
    with pytest.raises(ArtifactError, match=r"someone/other: no such folder.*HF_HUB_OFFLINE"):
        adopt("someone/other")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "given", OTHERS["gpt2"])
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="safetensors, the only weights that are read"):
        adopt(str(folder))


def test_code_that_comes_with_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "given", OTHERS["gpt2"])
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"model_type": "unheard-of", "auto_map": {"AutoConfig": "own.Config"}}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "own.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ArtifactError, match="is no transformers checkpoint"):
        settings_of(folder)


def test_what_is_no_language_model_or_does_not_belong_together_is_one_line(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "given", OTHERS["gpt2"])
    small = checkpoint(
        tmp_path / "small", GPT2Config(vocab_size=300, n_embd=32, n_layer=1, n_head=2)
    )
    with pytest.raises(ArtifactError, match="do not belong together"):
        load(adopt(str(small)), 64, CPU)
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ArtifactError, match="'vit', no causal language model"):
        settings_of(folder)
    shutil.rmtree(folder)
    with pytest.raises(ArtifactError, match="no such folder"):
        adopt(str(folder))
    with pytest.raises(ConfigError, match="not with a folder"):
        adopt(str(small), "main")


def test_continued_training_keeps_the_tokenizer_and_learns(tiny_run: Path, tmp_path: Path) -> None:
    build_corpus(tmp_path, range(30))
    base = checkpoint(tmp_path / "given", OTHERS["gpt2"])
    section = tiny_pretrain(base=str(base), continue_training=True, continue_lr=3e-3)
    made = stage.run(section, tmp_path)
    assert made.metrics["provenance"] == "adopted: unknown"
    assert made.metrics["tokens"] == section.tokens
    assert made.metrics["public_bpb"] < made.metrics["public_bpb_at_start"] - 0.05
    before, after = load_tokenizer(base), load_tokenizer(made.path)
    assert after.get_vocab() == before.get_vocab()
    assert settings_of(made.path).model_type == "gpt2"
    assert not stage.run(section, tmp_path).fresh
    with pytest.raises(ConfigError, match="with a base give tokens"):
        stage.run(tiny_pretrain(base=str(base), budget="1min"), tmp_path)


def test_rounds_take_blocks_of_the_stage_not_the_longest_that_the_model_can(tmp_path: Path) -> None:
    from federate.local import Workbench

    given = checkpoint(tmp_path / "given", OTHERS["gpt2"])
    build_corpus(tmp_path, range(30))
    made = stage.run(tiny_pretrain(base=str(given), moment_batches=0), tmp_path)
    assert Workbench(given).context == 128
    assert Workbench(made.path).context == 64
