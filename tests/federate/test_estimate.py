"""`commonroot plan`: what the arithmetic counts."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from federate import estimate as module
from federate.comparison.stage import CompareConfig
from federate.plan import FederateConfig
from federate.shards.stage import ShardsConfig
from ingest.gather import GatherConfig
from pretrain.stage import PretrainConfig
from tests.conftest import tiny_pretrain

Lines = Callable[..., dict[str, str]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lines:
    """The estimate of rounds over 10,000 parameters at 1,000 tokens a second, by first word."""
    monkeypatch.setattr(module, "_measure", lambda *_: (10_000, 10_000, 1000.0))

    def estimated(**federate: Any) -> dict[str, str]:
        sections = {
            "gather": GatherConfig(),
            "pretrain": tiny_pretrain(),
            "shards": ShardsConfig(demo=True),
            "federate": FederateConfig.model_validate({"rounds": 5, "cohort": 8, **federate}),
            "compare": CompareConfig(),
        }
        said = module.estimate(sections, tmp_path)
        return {line.split(":")[0].split(" ")[0]: line for line in said}

    return estimated


def tokens(line: str) -> int:
    found = re.search(r": ([\d,]+) tokens", line)
    assert found, line
    return int(found[1].replace(",", ""))


def test_second_looks_and_public_blocks_are_work_too(lines: Lines) -> None:
    none = {"personal": {"steps": 1, "batch": 1}}
    personal = 43 * 64
    plain = tokens(lines(local={"steps": 10, "batch": 4}, **none)["federate"]) - personal
    assert plain == 5 * 8 * 10 * 4 * 64
    both = lines(local={"steps": 10, "batch": 4, "svrg": 10, "replay": 0.5}, **none)
    assert tokens(both["federate"]) - personal == 3 * plain
    assert tokens(both["compare"]) == 3 * (3 * plain + personal)


def test_bytes_count_what_the_strategy_sends_beside_the_delta(lines: Lines) -> None:
    assert "1.6 MB up, 1.6 MB down" in lines(strategy="fedavg")["bytes"]
    assert "3.2 MB up, 3.2 MB down" in lines(strategy="scaffold")["bytes"]
    assert "4.8 MB up, 4.8 MB down" in lines(strategy="local-adam")["bytes"]
    assert "0.2 MB up" in lines(up={"bits": 4})["bytes"]


def test_a_budget_is_told_with_what_it_buys(tmp_path: Path) -> None:
    section = PretrainConfig(budget="300k tokens", context=32, batch=1)
    settled, lines = module._dialled(section, module._corpora(section, tmp_path))
    assert settled.tokens == 300_000
    assert "300k tokens buys" in lines[0]
    assert "assumed" in lines[0]
    assert lines[1].startswith("next best")
    assert module._dialled(PretrainConfig(), []) == (PretrainConfig(), [])
