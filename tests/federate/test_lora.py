import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from commonroot.errors import ConfigError
from federate.local import Weights, Workbench
from federate.lora import adapter as lora
from federate.lora.adapter import LoraConfig
from pretrain.model import Compute, load_model, pick_device
from pretrain.moments import prime
from pretrain.train import make_optimizer, schedule, train

ONE = Compute(device="cpu", dtype="fp32", threads=1)
RANK4 = LoraConfig(rank=4)
X_BT = torch.arange(5, 45)[None]


@pytest.fixture
def base_folder(tiny_run: Path) -> Path:
    return tiny_run / "3-base"


@pytest.fixture
def model(base_folder: Path) -> Any:
    return load_model(base_folder, pick_device(ONE))


@pytest.fixture
def base(model: Any) -> Weights:
    return {name: value.detach().numpy().copy() for name, value in model.named_parameters()}


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=X_BT).logits


def shaken(weights: Weights, seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    return {n: v + rng.normal(0, 0.05, v.shape).astype(np.float32) for n, v in weights.items()}


def step_once(model: Any, lr: float = 0.01, moments: Any = None) -> None:
    x_BT = np.arange(40).reshape(2, 20) % 50
    optimizer = make_optimizer(model, 0.0)
    prime(optimizer, model, moments)
    list(train(model, optimizer, [(x_BT, x_BT + 1)], schedule(lr, 1, 0, 0), ONE))


def test_attaching_changes_nothing_until_trained_and_detaching_nothing_at_all(model: Any) -> None:
    before, shape, names = logits(model), repr(model), list(model.state_dict())
    lora.attach(model, RANK4)
    assert torch.equal(logits(model), before)
    lora.detach(model)
    assert (repr(model), list(model.state_dict())) == (shape, names)
    assert all(value.requires_grad for value in model.parameters())
    assert not hasattr(model, "peft_config")


def test_only_the_adapter_learns(model: Any, base: Weights) -> None:
    lora.attach(model, RANK4)
    start, before = lora.read(model), logits(model)
    step_once(model)
    trained = lora.read(model)
    moved = {name for name in start if (trained[name] != start[name]).any()}
    assert moved == {name for name in start if name.endswith(".lora_B")}  # A's gradient is B's: 0
    step_once(model)
    assert all((lora.read(model)[name] != start[name]).any() for name in start)
    assert not torch.equal(logits(model), before)
    assert_same(lora.merged(model, ()), base)


def test_names_are_short_and_shapes_follow_the_rank(model: Any) -> None:
    lora.attach(model, RANK4)
    weights = lora.read(model)
    assert weights["model.layers.0.self_attn.q_proj.lora_A"].shape == (4, 32)
    assert weights["model.layers.1.mlp.down_proj.lora_B"].shape == (32, 4)
    assert len(weights) == 2 * 7 * 2  # two layers of seven projections; not the output head
    assert lora.parameters(model).keys() == weights.keys()


def test_values_are_a_function_of_the_seed_alone(model: Any, base_folder: Path) -> None:
    torch.manual_seed(1)
    lora.attach(model, RANK4)
    drawn = torch.rand(1)
    other = load_model(base_folder)
    torch.manual_seed(1)
    assert torch.rand(1) == drawn  # torch's own stream was not touched
    lora.attach(other, RANK4)
    assert_same(lora.read(model), lora.read(other))
    step_once(model)
    assert_same(lora.initial(model, RANK4), lora.read(other))
    reseeded = lora.initial(model, LoraConfig(rank=4, seed=1))
    name = "model.layers.0.self_attn.q_proj.lora_A"
    assert (reseeded[name] != lora.read(other)[name]).any()


def test_attaching_again_keeps_values_and_another_rank_replaces_them(model: Any) -> None:
    lora.attach(model, RANK4)
    step_once(model)
    trained = lora.read(model)
    lora.attach(model, RANK4)
    assert_same(lora.read(model), trained)
    lora.attach(model, LoraConfig(rank=2))
    assert lora.read(model)["model.layers.0.self_attn.q_proj.lora_A"].shape == (2, 32)
    lora.attach(model, LoraConfig(rank=2, targets=("*.q_proj",)))
    assert len(lora.read(model)) == 2 * 2


def test_what_is_read_can_be_loaded(model: Any, base: Weights) -> None:
    lora.attach(model, RANK4)
    weights = shaken(lora.read(model))
    lora.load(model, weights, base)
    assert_same(lora.read(model), weights)


def test_offsets_move_the_frozen_weights_and_do_not_add_up(model: Any, base: Weights) -> None:
    lora.attach(model, RANK4)
    name = "model.layers.0.mlp.up_proj.weight"
    start, offset = lora.read(model), np.full(base[name].shape, 0.25, np.float32)
    for _ in range(2):
        lora.load(model, {**start, f"base/{name}": offset}, base)
    assert_same(lora.merged(model), base | {name: base[name] + offset})
    lora.load(model, start, base)
    assert_same(lora.merged(model), base)


def test_the_merged_model_answers_like_the_adapter(model: Any, base: Weights) -> None:
    lora.attach(model, LoraConfig(rank=4, scale=3.0))
    lora.load(model, shaken(lora.read(model)), base)
    adapted, whole = logits(model), lora.merged(model)
    lora.detach(model)
    assert whole.keys() == base.keys()
    assert (adapted - logits(model)).abs().max() > 0.1
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.from_numpy(whole[name]))
    torch.testing.assert_close(logits(model), adapted, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
def test_peft_loads_the_saved_adapter(
    model: Any, base: Weights, base_folder: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    config = LoraConfig(rank=3, scale=1.5, targets=("*.q_proj", "*.down_proj"))
    lora.attach(model, config)
    lora.load(model, shaken(lora.read(model)), base)
    for folder in ("one", "two"):
        lora.save_adapter(model, tmp_path / folder, "owner/base")
    fresh = load_model(base_folder)
    assert not torch.equal(logits(fresh), logits(model))
    loaded = PeftModel.from_pretrained(fresh, tmp_path / "one")
    assert torch.equal(logits(loaded), logits(model))
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    saved = json.loads((tmp_path / "one" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == "owner/base"
    assert saved["target_modules"] == sorted(saved["target_modules"])


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
def test_a_saved_adapter_holds_offsets_of_the_base_as_well(
    model: Any, base: Weights, base_folder: Path, tmp_path: Path
) -> None:
    """As FedEx leaves them: peft puts the adapter on the public base, which has no offsets."""
    from peft import PeftModel

    lora.attach(model, RANK4)
    rng = np.random.default_rng(1)
    offsets = {
        f"base/{layer}.weight": (left @ right).astype(np.float32)
        for layer in ("model.layers.0.mlp.up_proj", "model.layers.1.self_attn.k_proj")
        for shape in [base[f"{layer}.weight"].shape]
        for left, right in [(rng.normal(0, 0.1, (shape[0], 2)), rng.normal(0, 0.5, (2, shape[1])))]
    }
    lora.load(model, shaken(lora.read(model)) | offsets, base)
    lora.save_adapter(model, tmp_path, "base", base)
    loaded = PeftModel.from_pretrained(load_model(base_folder), tmp_path)
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=1e-4)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["r"] == 6  # 4 of the adapter, 2 of the offsets
    lora.load(model, lora.read(model), base)
    lora.save_adapter(model, tmp_path, "base", base)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 4


def test_a_second_adapter_learns_beside_the_first(model: Any, base: Weights) -> None:
    lora.attach(model, RANK4)
    lora.load(model, shaken(lora.read(model)), base)
    shared, before = lora.read(model), logits(model)
    lora.attach(model, LoraConfig(rank=2, targets=("*.q_proj",)), "personal")
    assert torch.equal(logits(model), before)
    step_once(model)
    assert_same(lora.read(model), shared)
    both = logits(model)
    assert not torch.equal(both, before)
    lora.activate(model, [lora.SHARED])
    assert torch.equal(logits(model), before)
    lora.activate(model, [lora.SHARED, "personal"])
    assert torch.equal(logits(model), both)
    lora.detach(model, "personal")
    assert torch.equal(logits(model), before)
    assert_same(lora.read(model), shared)


def test_targets_that_match_nothing_are_named(model: Any) -> None:
    with pytest.raises(ConfigError, match="q_proj"):
        lora.attach(model, LoraConfig(rank=2, targets=("*.c_attn",)))


def test_a_rank_above_the_layers_is_refused_and_leaves_the_model_plain(model: Any) -> None:
    before = repr(model)
    with pytest.raises(ConfigError, match="16"):
        lora.attach(model, LoraConfig(rank=17))
    assert repr(model) == before


def test_second_moments_follow_from_those_of_the_base(model: Any, base: Weights) -> None:
    """Against a sampled gradient with independent entries of known mean square."""
    lora.attach(model, LoraConfig(rank=2, targets=("*.0.self_attn.q_proj",)))
    lora.load(model, shaken(lora.read(model)), base)
    rng = np.random.default_rng(0)
    v_OI = rng.uniform(0.5, 2, (32, 32)).astype(np.float32)
    layer = "model.layers.0.self_attn.q_proj"
    found = lora.second_moments(model, {f"{layer}.weight": torch.from_numpy(v_OI)})
    a_rI, b_Or = (lora.read(model)[f"{layer}.{factor}"] for factor in ("lora_A", "lora_B"))
    g_NOI = rng.standard_normal((4000, 32, 32)).astype(np.float32) * np.sqrt(v_OI)
    for factor, gradients in (
        ("lora_A", 2 * np.einsum("or,noi->nri", b_Or, g_NOI)),
        ("lora_B", 2 * np.einsum("noi,ri->nor", g_NOI, a_rI)),
    ):
        got = found[f"{layer}.{factor}.shared.weight"].numpy()
        np.testing.assert_allclose(got, np.square(gradients).mean(axis=0), rtol=0.15)


def test_an_adapter_can_start_from_them(bench: Workbench, base_folder: Path) -> None:
    model = load_model(base_folder)
    lora.attach(model, RANK4)
    moments = lora.second_moments(model, bench.moments)
    trainable = {name for name, value in model.named_parameters() if value.requires_grad}
    assert moments is not None
    assert moments.keys() == trainable
    step_once(model, moments=moments)
    assert any(value.any() for name, value in lora.read(model).items() if name.endswith("_B"))


def assert_same(left: Weights, right: Weights) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)
