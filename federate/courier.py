"""What each client is asked for in a round, and what its reply must be: the pacer's hands.

If the run adapts, slow devices are asked for fewer local steps, small ones for a lower LoRA rank.
"""

from collections.abc import Iterable, Mapping
from functools import cache

import numpy as np

from federate.exchange import Exchange, Node, Parcel
from federate.local import LocalSteps, Weights, Workbench
from federate.lora.adapter import LoraConfig
from federate.pacing.devices import Device, Load, adapted, adapted_rank
from federate.pacing.pacer import Flight
from federate.plan import FederateConfig
from federate.replies import Update, Wanted
from federate.requests import TrainAsk
from federate.strategies.fedavg import FedAvg

__all__ = ["RoundCourier"]

FP32 = 4
OPTIMIZER_COPIES = 3
"""Gradient and AdamW's two moments."""
ACTIVATION_BYTES = 68
"""A token, layer and unit of width in fp32: twice what Korthikanti et al. 2022 count in 16 bits
(https://arxiv.org/abs/2205.05198)."""


class RoundCourier:
    """Sends the requests of the pacer and brings back what is acceptable."""

    def __init__(
        self,
        exchange: Exchange,
        config: FederateConfig,
        run: str,
        nodes: Mapping[str, Node],
        devices: Mapping[str, Device],
        strategy: FedAvg,
        bench: Workbench,
    ) -> None:
        self.exchange, self.config, self.run = exchange, config, run
        self.nodes, self.devices, self.strategy = nodes, devices, strategy
        self.batch_tokens = config.local.batch * bench.context
        self.parameters = sum(value.size for value in bench.base_weights.values())
        model = bench.model.config
        self.token_bytes = ACTIVATION_BYTES * model.num_hidden_layers * model.hidden_size
        self.token_bytes += 3 * FP32 * model.vocab_size
        self.starts = {rank: _start(bench, config.lora, rank) for rank in _ladder(config)}
        self.number = 0
        """Of this round."""
        self.bytes_down = 0
        """Sent in this round, but for what a resumed run sends again."""
        self._parcels: dict[int, Parcel] = {}
        self.load = cache(self._load)

    def begin(self, number: int) -> None:
        """Start a round: what is sent from now on is the strategy's state as it is now."""
        self.number = number
        self._parcels.clear()
        self.bytes_down = 0

    def parcel(self, rank: int = 0) -> Parcel:
        """The global tensors as clients of this rank get them; encoded once a round."""
        if rank not in self._parcels:
            self._parcels[rank] = self.exchange.parcel(
                self.strategy.send(rank),
                self.strategy.extra(),
                self.starts[rank or self.config.lora.rank],
                self.config.down,
                [self.config.seed, self.number],
            )
        return self._parcels[rank]

    def push(self, flights: list[Flight]) -> None:
        """Ask these clients."""
        self.exchange.send(
            {flight.client: self._ask(flight.client, flight.number) for flight in flights}
        )
        new = [flight.client for flight in flights if flight.number == self.number]
        self.bytes_down += sum(self.parcel(self.rank(client)).bytes for client in new)

    def pull(self) -> Iterable[tuple[str, Update | str]]:
        """What has come since: updates, or why a reply is not acceptable."""
        return self.exchange.receive()

    def rank(self, client: str) -> int:
        """LoRA rank that the client trains; 0 unless ranks differ."""
        device = self.devices.get(client)
        if len(self.starts) == 1 or device is None:
            return 0
        loads = {rank: self._whole_load(rank) for rank in self.starts}
        return adapted_rank(loads, device, self.config.devices.target_s) or min(loads)

    def steps(self, client: str) -> LocalSteps:
        """Local steps that the client is asked for."""
        device = self.devices.get(client)
        if device is None or not self.config.devices.adapt:
            return self.config.local
        load = self._whole_load(self.rank(client) or self.config.lora.rank)
        return adapted(self.config.local, device, self.config.devices.target_s, load)

    def _load(self, client: str) -> Load:
        whole = self._whole_load(self.rank(client) or self.config.lora.rank)
        local = self.steps(client)
        tokens = int(local.steps * local.passes * self.batch_tokens)
        return Load(tokens, whole.down_bytes, whole.up_bytes, whole.memory_mb)

    def _whole_load(self, rank: int) -> Load:
        """Of all local steps at this rank, as far as it is known before anything is sent."""
        trained = sum(value.size for value in self.starts[rank].values())
        down, up = (trained * codec.bits / 8 for codec in (self.config.down, self.config.up))
        local = self.config.local
        memory = FP32 * (self.parameters + (OPTIMIZER_COPIES + local.svrg) * trained)
        memory += self.batch_tokens * self.token_bytes
        tokens = int(local.steps * local.passes * self.batch_tokens)
        return Load(tokens, int(down), int(up), memory / 1e6)

    def _ask(self, client: str, number: int) -> tuple[Node, TrainAsk, Parcel, Wanted]:
        config, node, rank = self.config, self.nodes[client], self.rank(client)
        local = self.steps(client).model_copy(update={"lr": config.lr(number)})
        lora = config.lora.model_copy(update={"rank": rank}) if rank else config.lora
        ask = TrainAsk(
            run=self.run,
            round=number,
            seed=config.seed,
            local=local,
            lora=lora,
            rule=self.strategy.rule(),
            up=config.up,
            personal=config.personal if config.personal.method == "ditto" else None,
        )
        wanted = Wanted(
            node.shares(self.strategy.expected(rank)),
            node.shares(self.strategy.expected_extra()),
            local.steps * self.batch_tokens,
            rank,
        )
        return node, ask, self.parcel(rank), wanted


def _ladder(config: FederateConfig) -> list[int]:
    """LoRA ranks that clients may train: halved down to 1 if devices adapt and ranks may differ."""
    top = config.lora.rank
    if not (top and config.devices.adapt and config.strategy == "flexlora"):
        return [top]
    return [top >> shift for shift in range(int(np.log2(top)) + 1)]


def _start(bench: Workbench, lora: LoraConfig, rank: int) -> Weights:
    bench.wear(lora.model_copy(update={"rank": rank}))
    return bench.start()
