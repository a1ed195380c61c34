"""The compiled kernels of the fused pass: what torch gives, on any machine, at any time."""

from pathlib import Path

import pytest
import torch

from pretrain.fused import losses
from pretrain.fused.compiled import kernels
from pretrain.fused.halves import at_once
from pretrain.fused.heads import QUERIES
from pretrain.packing import IGNORE
from tests.pretrain.test_fused import TOKENS, batch, fused, learnt, make

here = pytest.mark.skipif(kernels() is None, reason="no C compiler with OpenMP")


@here
@pytest.mark.parametrize("family", ["qwen3", "llama"])
@pytest.mark.parametrize("tokens", [TOKENS, QUERIES + 9])
def test_kernels_are_as_exact_as_torch(
    family: str, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (x_BT, y_BT) = make(family), batch(tokens=tokens)
    exact = learnt(model, fused, x_BT, y_BT)
    compiled = learnt(model, fused, x_BT, y_BT, bf16=True)
    monkeypatch.setattr(losses, "kernels", lambda: None)
    plain = learnt(model, fused, x_BT, y_BT, bf16=True)
    assert not torch.equal(compiled[1], plain[1]), "one of them was not used"
    targets = int((y_BT != IGNORE).sum())
    assert abs(float(compiled[0] - exact[0])) <= abs(float(plain[0] - exact[0])) + 1e-4 * targets
    for (name, parameter), parts in zip(
        model.named_parameters(), split(model, exact, compiled, plain), strict=True
    ):
        wanted, ours, torchs = parts
        error, usual = (ours - wanted).norm(), (torchs - wanted).norm()
        assert error < 2 * usual + 1e-6, f"{name} {tuple(parameter.shape)}"


def split(model, *runs):  # type: ignore[no-untyped-def]
    """The gradients of each parameter."""
    sizes = [parameter.numel() for parameter in model.parameters()]
    return zip(*(gradient.split(sizes) for _, gradient in runs), strict=True)


@here
def test_the_number_of_threads_changes_no_bit() -> None:
    model, (x_BT, y_BT) = make("qwen3"), batch()
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2, 3, 4):
            torch.set_num_threads(threads)
            found.append(learnt(model, fused, x_BT, y_BT, bf16=True))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0][1], gradient) for _, gradient in found[1:])


@here
@pytest.mark.parametrize("part", [0, 1])
def test_what_fails_in_a_half_is_told_and_threads_stay_as_they_were(part: int) -> None:
    def work(number: int) -> int:
        found.append(torch.get_num_threads())
        if number == part:
            raise ValueError("broken")
        return number

    before, found = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        with pytest.raises(ValueError, match="broken"):
            at_once(work, [0, 1], kernels())
        assert (sorted(found), torch.get_num_threads()) == ([1, 2], 3)
    finally:
        torch.set_num_threads(before)


@here
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_not_finite_is_seen(broken: float) -> None:
    model, (x_BT, y_BT) = make("qwen3"), batch()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = broken
    loss, gradient = learnt(model, fused, x_BT, y_BT, bf16=True)
    assert not torch.isfinite(loss)
    assert not torch.isfinite(gradient).all()


@here
def test_compiled_once_then_no_compiler_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found_with(tmp_path, "cc", monkeypatch)
    (library,) = (tmp_path / "commonroot").iterdir()
    made = library.stat()
    assert found_with(tmp_path, "no-such-compiler", monkeypatch)
    assert library.stat() == made


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false", "'"])
def test_without_a_compiler_there_are_none(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not found_with(tmp_path, compiler, monkeypatch)
    assert not list((tmp_path / "commonroot").iterdir())


def test_a_cache_that_cannot_be_written_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "commonroot").write_text("in the way")
    assert not found_with(tmp_path, "cc", monkeypatch)


def found_with(home: Path, compiler: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a process that asks for the first time gets kernels."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setenv("CC", compiler)
    return kernels.__wrapped__() is not None
