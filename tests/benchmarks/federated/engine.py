"""Line 6: what the in-process engine costs beside the training itself, and beside Flower's Ray.

The rounds of the product and a plain torch loop take turns, round by round, in one process: the
same clients in the same order, the same batches, the same AdamW from the same public moments. The
messages themselves: federated/messages.py.
"""

import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.benchmarks.federated.messages import beside_ray
from tests.benchmarks.federated.setting import made_by, make_run
from tests.benchmarks.record import Result

if TYPE_CHECKING:
    import torch

__all__ = ["line_6"]

CLIENTS = 8
ROUNDS = 12
"""The first is not counted, nor the last, after which all clients are tested."""
TABLES = {
    "pretrain": {
        "tokens": 40_960,
        "batch": 4,
        "eval_blocks": 8,
        "replay_blocks": 0,
        "prompts": ["The country is"],
        "compute": {"threads": 1},
    },
    "shards": {"demo": True, "most_clients": CLIENTS},
}
"""The demo's model (1.05M parameters) on less text: how long a step takes is not learnt."""
LOCAL = {"steps": 10, "batch": 4, "lr": 4e-3}


class PlainLoop:
    """Federated averaging as one would write it in an afternoon, all in torch."""

    def __init__(self, base: Path, blocks: dict[str, Any], steps: int, batch: int) -> None:
        from pretrain.model import Compute, load_model
        from pretrain.moments import load_moments

        self.compute = Compute()
        self.model, self.moments = load_model(base), load_moments(base)
        self.blocks, self.steps, self.batch = blocks, steps, batch
        self.served = dict.fromkeys(blocks, 0)
        self.weights = [p.detach().clone() for p in self.model.parameters()]

    def round(self, names: Sequence[str], seeds: dict[str, int], lr: float) -> None:
        """Train these clients one after the other and apply the mean of what they changed."""
        import torch

        sums = [torch.zeros_like(w, dtype=torch.float64) for w in self.weights]
        total = 0
        for name in names:
            tokens = self._client(name, seeds[name], lr)
            with torch.no_grad():
                rows = zip(sums, self.model.parameters(), self.weights, strict=True)
                for part, trained, start in rows:
                    part.add_((trained - start).double(), alpha=tokens)
            total += tokens
        for weight, part in zip(self.weights, sums, strict=True):
            weight.copy_((weight + part / total).float())

    def _client(self, name: str, seed: int, lr: float) -> int:
        import torch

        from pretrain.model import autocast

        with torch.no_grad():
            for parameter, weight in zip(self.model.parameters(), self.weights, strict=True):
                parameter.copy_(weight)
        optimizer, tokens = self._optimizer(lr), 0
        self.model.train()
        for number in range(self.served[name], self.served[name] + self.steps):
            x_BT, y_BT = map(torch.from_numpy, self.blocks[name].batch(seed, number, self.batch))
            with autocast(self.compute, torch.device("cpu")):
                logits_BTV = self.model(input_ids=x_BT, use_cache=False).logits
                loss = torch.nn.functional.cross_entropy(
                    logits_BTV.flatten(0, 1).float(), y_BT.flatten(), ignore_index=-100
                )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            tokens += int((y_BT != -100).sum())
        self.served[name] += self.steps
        return tokens

    def _optimizer(self, lr: float) -> "torch.optim.AdamW":
        import torch

        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )
        for name, parameter in self.model.named_parameters():
            optimizer.state[parameter] = {
                "step": torch.tensor(1000.0),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": self.moments[name].clone(),  # type: ignore[index]
            }
        return optimizer

    def distance(self, weights: dict[str, Any]) -> float:
        """Largest difference of a weight."""
        names = [name for name, _ in self.model.named_parameters()]
        rows = zip(names, self.weights, strict=True)
        return max(float(np.abs(w.numpy() - weights[name]).max()) for name, w in rows)


class Turns:
    """Lets the plain loop do a round whenever the product is about to send one."""

    def __init__(self, plain: Callable[[list[int], int], None]) -> None:
        self.plain = plain
        self.times: list[dict[str, float]] = []
        self._since: tuple[float, float] | None = None

    def watch(self, grid: Any) -> Any:
        """The grid, whose pushes of training requests are noticed."""
        push = grid.push_messages

        def pushed(messages: Any) -> Any:
            kept = list(messages)
            if kept and kept[0].metadata.message_type == "train":
                self._turn([message.metadata.dst_node_id for message in kept])
            return push(kept)

        grid.push_messages = pushed
        return grid

    def _turn(self, nodes: list[int]) -> None:
        self._stop("product")
        self._start()
        self.times.append({})
        self.plain(nodes, len(self.times) - 1)
        self._stop("plain")
        self._start()

    def _start(self) -> None:
        self._since = time.perf_counter(), time.process_time()

    def _stop(self, who: str) -> None:
        if self._since and self.times:
            self.times[-1][who] = time.perf_counter() - self._since[0]
            self.times[-1][f"{who}_cpu"] = time.process_time() - self._since[1]


def beside_plain_torch(work: Path, quick: bool) -> dict[str, Any]:
    """Seconds a round of both, and what the product takes in excess."""
    import torch

    from commonroot.artifact import load_artifact
    from federate.engines import inprocess
    from federate.engines.inprocess import FIRST_NODE
    from federate.local import Workbench
    from federate.plan import FederateConfig, Plan
    from federate.rounds import run_rounds
    from federate.shards.stage import clients_of
    from federate.silo import seed_of
    from federate.stage import open_silos

    torch.set_num_threads(1)
    run = make_run(work / "run", TABLES)
    for left in ("rounds", "silos"):
        shutil.rmtree(work / left, ignore_errors=True)
    config = FederateConfig.model_validate(
        {
            "rounds": 4 if quick else ROUNDS,
            "cohort": CLIENTS,
            "local": LOCAL | ({"steps": 2} if quick else {}),
            "evaluate_every": ROUNDS,
            "evaluate_clients": 1,
            "test_blocks": 1,
            "personal": {"steps": 1, "batch": 1},
            "keep_best": False,
            "compute": {"threads": 1},
        }
    )
    bench = Workbench(run / "3-base", config.compute)
    silos, _ = open_silos(
        config, clients_of(load_artifact(run / "4-shards", "shards")), bench, work
    )
    names = list(silos)
    seeds = {name: seed_of(config.seed, name) for name in names}
    blocks = {name: silos[name].blocks for name in names}
    loop = PlainLoop(run / "3-base", blocks, config.local.steps, config.local.batch)

    def plain(nodes: list[int], number: int) -> None:
        loop.round([names[node - FIRST_NODE] for node in nodes], seeds, config.lr(number))

    turns = Turns(plain)
    (work / "rounds").mkdir()
    for left in ("metrics.jsonl", "clients.json"):
        (work / left).unlink(missing_ok=True)
    plan = Plan("engine", work, run / "3-base", len(names), config)
    inprocess.run(lambda grid: run_rounds(turns.watch(grid), plan), silos)
    return _figures(turns.times[1:-1]) | {
        "clients_a_round": len(names),
        "local_tokens": config.local.steps * config.local.batch * bench.context,
        "weights_differ_by": loop.distance(_final(work)),
    }


def _figures(times: list[dict[str, float]]) -> dict[str, Any]:
    ratios = [one["product"] / one["plain"] for one in times]
    cpu = [one["product_cpu"] / one["plain_cpu"] for one in times]
    return {
        "rounds": len(times),
        "plain_s": round(statistics.median(one["plain"] for one in times), 3),
        "product_s": round(statistics.median(one["product"] for one in times), 3),
        "excess": round(statistics.median(ratios) - 1, 4),
        "excess_of_each_round": [round(ratio - 1, 3) for ratio in ratios],
        "excess_cpu": round(statistics.median(cpu) - 1, 4),
    }


def _final(work: Path) -> dict[str, Any]:
    from federate.roundstate import FINAL, read_round

    return read_round(work / "rounds" / FINAL).weights


def line_6(result: Result, work: Path, quick: bool = False) -> None:
    """Both comparisons."""
    work.mkdir(parents=True, exist_ok=True)
    loop = beside_plain_torch(work / "loop", quick)
    messages = beside_ray(work, quick)
    same = loop["weights_differ_by"] < 1e-3
    ok = same and loop["excess"] <= 0.05 and messages["empty"]["times_less"] >= 4
    goal = "<= 5 % more time than plain torch; >= 4 times less a message of 20 bytes than Ray"
    value = {"beside_plain_torch": loop, "beside_ray": messages}
    result.add("6", value, goal, ok, made_by(6))
