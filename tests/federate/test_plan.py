"""What the operator's config means where it is silent."""

from typing import Any

from federate.plan import FederateConfig


def test_factors_are_aggregated_by_flexlora_unless_another_is_named() -> None:
    def strategy(**changes: Any) -> str:
        return FederateConfig.model_validate(changes).strategy

    factors = {"rank": 2}
    assert strategy() == "fedavg"
    assert strategy(lora=factors) == "flexlora"
    assert strategy(lora=factors, strategy="naive-lora") == "naive-lora"
    stale = {"mode": "fedbuff"}
    assert strategy(lora=factors, pacing=stale, engine="simulation") == "fedavg"
