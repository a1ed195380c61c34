"""A thousand checkpoints damaged at random: is one ever loaded as if it were whole?"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["damaged_checkpoints"]

STEPS = 4
Rng = np.random.Generator
Damage = Callable[[Path, Path, Rng], None]
"""Changes the first folder; the second is the checkpoint before it."""


def _pick(folder: Path, rng: Rng) -> Path:
    files = sorted(folder.iterdir())
    return files[int(rng.integers(len(files)))]


def _span(data: bytearray, rng: Rng, most: int = 64) -> slice:
    start = int(rng.integers(len(data)))
    return slice(start, min(len(data), start + 1 + int(rng.integers(most))))


def _flip(folder: Path, _: Path, rng: Rng) -> None:
    path = _pick(folder, rng)
    data = bytearray(path.read_bytes())
    for _number in range(int(rng.integers(1, 4))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def _truncate(folder: Path, _: Path, rng: Rng) -> None:
    path = _pick(folder, rng)
    data = path.read_bytes()
    path.write_bytes(data[: int(rng.integers(len(data)))])


def _append(folder: Path, _: Path, rng: Rng) -> None:
    path = _pick(folder, rng)
    path.write_bytes(path.read_bytes() + rng.bytes(int(rng.integers(1, 64))))


def _zero(folder: Path, _: Path, rng: Rng) -> None:
    path = _pick(folder, rng)
    data = bytearray(path.read_bytes())
    span = _span(data, rng, 4096)
    data[span] = bytes(len(data[span]))
    path.write_bytes(data)


def _swap_spans(folder: Path, _: Path, rng: Rng) -> None:
    path = folder / "state.safetensors"
    data = bytearray(path.read_bytes())
    one, other = (int(at) for at in rng.choice(len(data) - 64, 2, replace=False))
    data[one : one + 32], data[other : other + 32] = (
        data[other : other + 32],
        data[one : one + 32],
    )
    path.write_bytes(data)


def _swap_files(folder: Path, _: Path, rng: Rng) -> None:
    tensors, state = folder / "state.safetensors", folder / "state.json"
    one, other = tensors.read_bytes(), state.read_bytes()
    tensors.write_bytes(other)
    state.write_bytes(one)


def _missing(folder: Path, _: Path, rng: Rng) -> None:
    _pick(folder, rng).unlink()


def _stale_file(folder: Path, before: Path, rng: Rng) -> None:
    name = _pick(folder, rng).name
    shutil.copy(before / name, folder / name)


def _stale_folder(folder: Path, before: Path, rng: Rng) -> None:
    shutil.rmtree(folder)
    shutil.copytree(before, folder)


def _stale_tensor(folder: Path, before: Path, rng: Rng) -> None:
    """One tensor of the step before in a file that is else whole."""
    from safetensors.torch import load_file, save_file

    tensors, old = load_file(folder / "state.safetensors"), load_file(before / "state.safetensors")
    name = sorted(tensors)[int(rng.integers(len(tensors)))]
    tensors[name] = old[name]
    save_file(tensors, folder / "state.safetensors")


def _header(folder: Path, _: Path, rng: Rng) -> None:
    """Two tensors change names, places, shapes or types in the file's header."""
    path = folder / "state.safetensors"
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    names = sorted(name for name in header if name != "__metadata__")
    one, other = (names[int(at)] for at in rng.choice(len(names), 2, replace=False))
    what = int(rng.integers(4))
    if what == 0:
        header[one], header[other] = header[other], header[one]
    elif what == 1:
        header[one]["data_offsets"] = header[other]["data_offsets"]
    elif what == 2:
        header[one]["shape"] = [*header[one]["shape"], 1]
    else:
        header[one]["dtype"] = "I32"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


def _edit_json(folder: Path, _: Path, rng: Rng) -> None:
    """One number, word or list of the state is another, or gone."""
    path = folder / "state.json"
    state = json.loads(path.read_text("utf-8"))
    inner = state if rng.random() < 0.4 else state["progress"]
    key = sorted(inner)[int(rng.integers(len(inner)))]
    if rng.random() < 0.3:
        del inner[key]
    else:
        others = [7, -1, "", "x", None, [], [0.5], {}, True]
        inner[key] = others[int(rng.integers(len(others)))]
    path.write_text(json.dumps(state, indent=1), encoding="utf-8")


def _one_more(folder: Path, before: Path, rng: Rng) -> None:
    shutil.copy(before / "state.safetensors", folder / "state-2.safetensors")


DAMAGES: dict[str, Damage] = {
    "bits flipped": _flip,
    "truncated": _truncate,
    "bytes added": _append,
    "zeroed": _zero,
    "parts swapped": _swap_spans,
    "files swapped": _swap_files,
    "file missing": _missing,
    "file of the step before": _stale_file,
    "folder of the step before": _stale_folder,
    "tensor of the step before": _stale_tensor,
    "header edited": _header,
    "json edited": _edit_json,
    "file too many": _one_more,
}


def damaged_checkpoints(work: Path, cases: int) -> dict[str, Any]:
    """Damage the newest of two checkpoints, load, compare; what was loaded in silence."""
    whole, kept = work / "whole", work / "damaged"
    states = _make(whole)
    silent, wrong, unchanged = [], [], 0
    for number in range(cases):
        rng = np.random.default_rng([3, number])
        name = list(DAMAGES)[number % len(DAMAGES)]
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(whole, kept)
        newest, before = (kept / f"step-{step:08d}" for step in (STEPS, STEPS - 1))
        DAMAGES[name](newest, before, rng)
        if _bytes(newest) == _bytes(whole / newest.name):
            unchanged += 1  # zeros were zeroed, equal parts swapped
            continue
        step, same, said = _load(kept, states)
        if step == STEPS or newest.name not in said:
            silent.append(f"{number}: {name}")
        elif step != STEPS - 1 or not same:
            wrong.append(f"{number}: {name}")
    return {
        "damaged": cases - unchanged,
        "left_as_they_were": unchanged,
        "kinds": list(DAMAGES),
        "loaded_in_silence": silent,
        "the_one_before_not_used": wrong,
    }


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _pair() -> tuple[Any, Any]:
    from pretrain.model import ModelShape, build_model
    from pretrain.train import make_optimizer

    shape = ModelShape(hidden=16, layers=1, heads=1, kv_heads=1, intermediate=16, vocab=300)
    model = build_model(shape, 32, 0, 0)
    return model, make_optimizer(model, 0.1)


def _make(folder: Path) -> dict[int, Any]:
    """Two checkpoints of a tiny model; their tensors by step."""
    from pretrain.checkpoint import Progress, save
    from pretrain.model import Compute
    from pretrain.packing import Blocks
    from pretrain.train import train
    from pretrain.trainstate import tensors_of

    shutil.rmtree(folder, ignore_errors=True)
    model, optimizer = _pair()
    data = Blocks(np.arange(2000, dtype=np.int64) % 300, 32)
    batches = (data.batch(0, step, 2) for step in range(STEPS))
    compute, states = Compute(threads=1, dtype="fp32"), {}
    for step, _ in enumerate(train(model, optimizer, batches, lambda _: 1e-3, compute), start=1):
        save(folder, model, optimizer, Progress(step, "data", (5.5, 5.0 + step / 8), (1,), 1))
        states[step] = {name: one.clone() for name, one in tensors_of(model, optimizer).items()}
    return states


def _load(folder: Path, states: dict[int, Any]) -> tuple[int, bool, str]:
    """Step that was loaded, whether its tensors are those of that step, and what was said."""
    import contextlib
    import io

    import torch

    from pretrain.checkpoint import restore
    from pretrain.trainstate import tensors_of

    model, optimizer = _pair()
    with contextlib.redirect_stderr(io.StringIO()) as said:
        progress = restore(folder, model, optimizer, "data")
    if progress is None:
        return 0, False, said.getvalue()
    found, wanted = tensors_of(model, optimizer), states[progress.step]
    same = found.keys() == wanted.keys() and all(torch.equal(found[n], wanted[n]) for n in wanted)
    return progress.step, same, said.getvalue()
