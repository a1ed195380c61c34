"""What a silo does beside plain local steps because the server's strategy asks for it.

A closed list: a silo never runs what it does not know. A rule stands around each optimizer step
(pretrain.train.Correction), corrects gradients before the optimizer sees them, and may remember
tensors in the silo or send some back. Tensors go by their travelling names, in the shapes of the
trained ones.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from federate.local import Weights

if TYPE_CHECKING:
    import torch

    Parameters = Mapping[str, torch.nn.Parameter]
    Tensors = dict[str, torch.Tensor]

__all__ = ["Rule", "make_rule"]


class Rule:
    """Plain local steps; the others override what differs."""

    def begin(self, optimizer: "torch.optim.Optimizer") -> None:
        """The optimizer is made and primed; its state may be changed."""

    def before_step(self) -> None:
        """Gradients stand in `param.grad`, already clipped; they may be changed in place."""

    def after_step(self) -> None:
        """The optimizer has stepped."""

    def finish(self) -> tuple[Weights, Weights]:
        """What to send back, and what the silo keeps for its next time; leaves no trace behind.

        Call it in a `finally`: the parameters belong to a warm model that others use as well.
        """
        return {}, {}


def make_rule(
    ask: Mapping[str, Any],
    model_params: "Parameters",
    down: Weights,
    kept: Weights,
    steps: int = 0,
) -> Rule:
    """The rule that `ask` describes, for one training request of `steps` optimizer steps.

    Make it when the received values are in `model_params` and before the optimizer is made. `down`
    are the tensors that came for it, `kept` those that its last `finish` left in this silo ({} at
    first). Raises ValueError in one line for an unknown rule, option or value, and for tensors that
    are not exactly those of the model.
    """
    options = dict(ask)
    name = options.pop("name", None)
    if not options and name is None:
        _nothing(down, "plain steps")
        return Rule()
    if not isinstance(name, str) or name not in _RULES:
        raise ValueError(f"unknown rule {str(name)[:40]!r}; known: {', '.join(sorted(_RULES))}")
    return _RULES[name](options, model_params, down, kept, steps)


class _Prox(Rule):
    """gradient += mu * (w - w_received): FedProx, Li et al. 2020, arxiv.org/abs/1812.06127."""

    def __init__(self, params: "Parameters", mu: float) -> None:
        self.params, self.mu = params, mu
        self.start = {name: value.detach().clone() for name, value in params.items()}

    def before_step(self) -> None:
        for name, value in self.params.items():
            if value.grad is not None:
                value.grad.add_(value.detach() - self.start[name], alpha=self.mu)


class _Scaffold(Rule):
    """gradient += c - c_i, and c_i := mean gradient of these steps (federate.strategies.scaffold).

    c_i is the mean before correction, of steps that were corrected.
    """

    def __init__(self, params: "Parameters", common: Weights, own: Weights) -> None:
        import torch

        self.params, self.own, self.steps = params, own, 0
        self.shift = _tensors({n: c - own[n] if own else c for n, c in common.items()}, params)
        self.sums = {name: torch.zeros_like(value) for name, value in params.items()}

    def before_step(self) -> None:
        self.steps += 1
        for name, value in self.params.items():
            if value.grad is not None:
                self.sums[name].add_(value.grad)
                value.grad.add_(self.shift[name])

    def finish(self) -> tuple[Weights, Weights]:
        if not self.steps:
            return {}, self.own
        new = {name: _numpy(total / self.steps) for name, total in self.sums.items()}
        return {name: c - self.own[name] if self.own else c for name, c in new.items()}, new


class _Mime(Rule):
    """Each step: (1 - beta) of the optimizer's, and beta of the global momentum's share of it.

    `momentum` is the last round's mean delta; a round of `steps` steps travels along beta of it
    (federate.strategies.mime).
    """

    def __init__(self, params: "Parameters", momentum: Weights, beta: float, steps: int) -> None:
        self.params, self.beta = params, beta
        self.push = _tensors(momentum, params)
        for value in self.push.values():
            value.mul_(beta / steps)

    def before_step(self) -> None:
        self.before = {name: value.detach().clone() for name, value in self.params.items()}

    def after_step(self) -> None:
        for name, value in self.params.items():
            value.detach().lerp_(self.before[name], self.beta).add_(self.push[name])


class _Adam(Rule):
    """AdamW goes on from the received moments and sends its own back (strategies.local_adam).

    They travel as `first/<tensor>` and `second/<tensor>`, bias corrections applied.
    """

    def __init__(self, params: "Parameters", moments: Weights) -> None:
        self.params, self.moments = params, moments
        self.optimizer: torch.optim.Optimizer | None = None

    def begin(self, optimizer: "torch.optim.Optimizer") -> None:
        import torch

        from pretrain.moments import WARM

        self.optimizer = optimizer
        for name, value in self.params.items():
            if self.moments and value.requires_grad:
                optimizer.state[value] = {
                    "step": torch.tensor(WARM),
                    "exp_avg": torch.tensor(self.moments[f"first/{name}"]).to(value),
                    "exp_avg_sq": torch.tensor(self.moments[f"second/{name}"]).to(value),
                }

    def finish(self) -> tuple[Weights, Weights]:
        if not self.optimizer:
            return {}, {}
        sent: Weights = {}
        first, second = self.optimizer.param_groups[0]["betas"]
        for name, value in self.params.items():
            if state := self.optimizer.state.get(value):
                steps = float(state["step"])
                sent[f"first/{name}"] = _numpy(state["exp_avg"] / (1 - first**steps))
                sent[f"second/{name}"] = _numpy(state["exp_avg_sq"] / (1 - second**steps))
        return sent, {}


class _Freeze(Rule):
    """Tensors of one name are sent but not trained: of LoRA's factors, only the other one is."""

    def __init__(self, params: "Parameters", suffix: str) -> None:
        # A module's name, as in `...q_proj.lora_A.weight`, or the end of the whole name.
        self.frozen = [
            value
            for name, value in params.items()
            if value.requires_grad and (suffix in name.split(".") or name.endswith(suffix))
        ]
        if not 0 < len(self.frozen) < sum(value.requires_grad for value in params.values()):
            raise ValueError(f"freeze: {suffix[:40]!r} matches none or all of the tensors")
        for value in self.frozen:
            value.requires_grad_(False)

    def finish(self) -> tuple[Weights, Weights]:
        for value in self.frozen:
            value.requires_grad_(True)
        return {}, {}


def _make_prox(
    options: dict[str, Any], params: "Parameters", down: Weights, kept: Weights, steps: int
) -> Rule:
    del kept, steps
    _nothing(down, "prox")
    return _Prox(params, _number(options, "prox", "mu", math.inf))


def _make_scaffold(
    options: dict[str, Any], params: "Parameters", down: Weights, kept: Weights, steps: int
) -> Rule:
    del steps
    _only(options, "scaffold", ())
    _fit(down, params, "the common control variate")
    if kept:
        _fit(kept, params, "this silo's control variate")
    return _Scaffold(params, down, kept)


def _make_mime(
    options: dict[str, Any], params: "Parameters", down: Weights, kept: Weights, steps: int
) -> Rule:
    del kept
    beta = _number(options, "mime", "beta", 1.0)
    _fit(down, params, "the momentum")
    if steps < 1:
        raise ValueError("mime: the number of local steps must be known")
    return _Mime(params, down, beta, steps)


def _make_adam(
    options: dict[str, Any], params: "Parameters", down: Weights, kept: Weights, steps: int
) -> Rule:
    del kept, steps
    _only(options, "adam", ())
    for kind in ("first", "second") if down else ():
        moments = {n: down[f"{kind}/{n}"] for n in params if f"{kind}/{n}" in down}
        _fit(moments, params, f"the {kind} moments")
    if len(down) not in (0, 2 * len(params)):
        raise ValueError("adam: moments of other tensors came")
    if any(name.startswith("second/") and (value < 0).any() for name, value in down.items()):
        raise ValueError("adam: second moments below zero came")
    return _Adam(params, down)


def _make_freeze(
    options: dict[str, Any], params: "Parameters", down: Weights, kept: Weights, steps: int
) -> Rule:
    del kept, steps
    _only(options, "freeze", ("suffix",))
    _nothing(down, "freeze")
    suffix = options.get("suffix")
    if not isinstance(suffix, str) or not suffix:
        raise ValueError("freeze: suffix must be a name")
    return _Freeze(params, suffix)


_RULES: dict[str, Callable[..., Rule]] = {
    "prox": _make_prox,
    "scaffold": _make_scaffold,
    "mime": _make_mime,
    "adam": _make_adam,
    "freeze": _make_freeze,
}


def _only(options: dict[str, Any], rule: str, known: tuple[str, ...]) -> None:
    for key in options:
        if key not in known:
            raise ValueError(f"{rule}: unknown option {str(key)[:40]!r}")


def _number(options: dict[str, Any], rule: str, key: str, below: float) -> float:
    _only(options, rule, (key,))
    value = options.get(key)
    if type(value) not in (int, float) or not 0 <= value < below:  # type: ignore[operator]
        raise ValueError(f"{rule}: {key} must be a number, at least 0 and below {below:g}")
    return float(value)  # type: ignore[arg-type]


def _nothing(down: Weights, rule: str) -> None:
    if down:
        raise ValueError(f"{rule}: takes no tensors, but {sorted(down)[0][:80]} came")


def _fit(weights: Weights, params: "Parameters", what: str) -> None:
    if weights.keys() != params.keys():
        wrong = sorted(weights.keys() ^ params.keys())[0]
        raise ValueError(f"{what} and the model differ in tensor {wrong[:80]}")
    for name, value in weights.items():
        if value.shape != tuple(params[name].shape) or not np.isfinite(value).all():
            raise ValueError(f"{what}: {name[:80]} has another shape or is not finite")


def _tensors(weights: Weights, params: "Parameters") -> "Tensors":
    import torch

    return {name: torch.tensor(value).to(params[name]) for name, value in weights.items()}


def _numpy(value: "torch.Tensor") -> Any:
    return value.cpu().numpy().astype(np.float32)
