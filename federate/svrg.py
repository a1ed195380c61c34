"""Variance-reduced local steps: the noise of single batches is taken out of each client's walk.

A client's batch is small, AdamW makes its noisy gradient as long as any other, and within a round
nobody averages: clients end far from each other, and gradients taken out there are worth little
(docs/decisions.md: this, not unlike data, was the gap between federated and centralised training).
So a window of batches is looked at twice. First each batch's gradient is taken at the anchor, where
the window starts; then a step moves by batch gradient - its gradient at the anchor + the mean over
the window. The mean is what all batches say; the difference, what the way since the anchor changes.

Johnson and Zhang 2013, SVRG, https://papers.nips.cc/paper/4937; in federated rounds: Konečný et al.
2016, https://arxiv.org/abs/1610.02527. There the anchor's mean is over all data and clients; here
over the window's own batches, so that no text is read that the window would not be trained on.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from pretrain.model import Compute
from pretrain.packing import Int64
from pretrain.train import Step, gradients

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = ["Anchored"]

CLIP = 1.0
"""L2 norm of the corrected gradient, as in plain steps."""
Gradient = list["torch.Tensor | None"]


@dataclass
class Anchored:
    """Corrected gradients for windows of `window` batches.

    Two gradient passes a batch, and `window` + 1 more copies of the gradient in memory.
    """

    model: "PreTrainedModel"
    window: int
    compute: Compute
    _corrections: deque[Gradient] = field(default_factory=deque)

    def ahead(self, batches: Iterable[tuple[Int64, Int64]]) -> Iterator[tuple[Int64, Int64]]:
        """The same batches; those of a window are looked at before its first is given out."""
        left = iter(batches)
        while window := list(islice(left, self.window)):
            self._anchor(window)
            yield from window

    def gradients(
        self,
        model: "PreTrainedModel",
        x_BT: Int64,
        y_BT: Int64,
        compute: Compute,
    ) -> Step:
        """Leave the corrected gradient of the next batch in the parameters, clipped to norm 1."""
        import torch

        step = gradients(model, x_BT, y_BT, compute, float("inf"))
        corrections = self._corrections.popleft()
        for parameter, correction in zip(model.parameters(), corrections, strict=True):
            if parameter.grad is not None and correction is not None:
                parameter.grad.add_(correction)
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP))
        return replace(step, grad_norm=norm)

    def _anchor(self, window: list[tuple[Int64, Int64]]) -> None:
        """Mean - gradient at the weights of now, for each batch."""
        import torch

        found: list[Gradient] = []
        for x_BT, y_BT in window:
            gradients(self.model, x_BT, y_BT, self.compute, float("inf"))
            found.append([parameter.grad for parameter in self.model.parameters()])
            self.model.zero_grad(set_to_none=True)
        for of_one_tensor in zip(*found, strict=True):
            known = [gradient for gradient in of_one_tensor if gradient is not None]
            if known:
                mean = torch.stack(known).sum(0) / len(window)
                for gradient in known:
                    gradient.neg_().add_(mean)
        self._corrections.extend(found)
