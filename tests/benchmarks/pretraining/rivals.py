"""Hugging Face's Trainer on the same blocks."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

__all__ = ["Packed", "hf_trainer"]


class Packed(Dataset[dict[str, torch.Tensor]]):
    """Blocks as Trainer wants them: labels are the inputs, which the model shifts itself."""

    def __init__(self, blocks: Any) -> None:
        self.blocks = blocks

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.from_numpy(self.blocks.at([index])[0][0])
        return {"input_ids": ids, "labels": ids}


class _Clock(TrainerCallback):  # type: ignore[misc]
    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began = self.clock()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(self.clock() - self.began)


def hf_trainer(
    model: Any,
    data: Packed,
    work: Path,
    batch: int,
    steps: int,
    bf16: bool,
    lr: float = 1e-4,
    schedule: str = "constant",
    clock: Callable[[], float] = time.perf_counter,
    **changes: Any,
) -> list[float]:
    """Train `model` with Trainer's own AdamW; seconds of every step.

    It attends with torch's fused kernel, as a model of transformers does by default.
    """
    model.set_attn_implementation("sdpa")
    watch = _Clock(clock)
    arguments = TrainingArguments(
        output_dir=str(work / "trainer"),
        per_device_train_batch_size=batch,
        max_steps=steps,
        learning_rate=lr,
        lr_scheduler_type=schedule,
        weight_decay=0.1,
        bf16=bf16,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_steps=10_000,
        disable_tqdm=True,
        **changes,
    )
    Trainer(model=model, args=arguments, train_dataset=data, callbacks=[watch]).train()
    return watch.seconds
