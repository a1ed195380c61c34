"""The round loop over the in-process engine: bad replies, quorum, resume, reproducibility."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commonroot.errors import RoundError
from federate.engines import inprocess
from federate.local import LocalSteps
from federate.personalize import PersonalConfig
from federate.plan import FederateConfig, Plan
from federate.rounds import run_rounds
from federate.roundstate import read_round
from federate.wire import encode, fingerprint


class Saboteur:
    """A silo in front of a real one, which changes what the real one answers to `train`."""

    def __init__(self, silo: Any, change: Callable[[dict, dict], Any]) -> None:
        self.silo, self.change = silo, change

    def answer(self, header: dict[str, Any], buffers: dict[str, bytes]) -> Any:
        reply, out = self.silo.answer(header, buffers)
        if header["kind"] == "train":
            reply, out = json.loads(json.dumps(reply)), dict(out)
            self.change(reply, out)
        return reply, out


def settings(**changes: Any) -> FederateConfig:
    local = LocalSteps(steps=2, batch=2, lr=1e-3, warmup=0)
    plain = {
        "rounds": 3,
        "cohort": 3,
        "local": local,
        "personal": PersonalConfig(steps=2, batch=2, lr=1e-3),
        "evaluate_every": 2,
    }
    return FederateConfig(**(plain | changes))


def run(tmp_path: Path, tiny_run: Path, silos: dict[str, Any], **changes: Any) -> Plan:
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    plan = Plan("run1", work, tiny_run / "3-base", len(silos), settings(**changes))
    inprocess.run(lambda grid: run_rounds(grid, plan), silos)
    return plan


def history(plan: Plan) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (plan.work / "metrics.jsonl").read_text().splitlines()]


def final(plan: Plan) -> str:
    last = max((plan.work / "rounds").glob("round-*.frame"))
    return fingerprint(read_round(last).weights)


@pytest.fixture
def silos(make_silo):  # type: ignore[no-untyped-def]
    return {name: make_silo(name, seed) for seed, name in enumerate(["a", "b", "c"], start=60)}


def test_rounds_learn_and_are_recorded(tmp_path, tiny_run, silos, bench) -> None:
    plan = run(tmp_path, tiny_run, silos, rounds=4, local=LocalSteps(steps=6, batch=2, lr=3e-3))
    rounds = history(plan)
    assert [r["round"] for r in rounds] == [0, 1, 2, 3]
    assert rounds[-1]["loss"] < rounds[0]["loss"]
    assert all(r["bytes_up"] > 0 and not r["excluded"] and r["delta_norm"] > 0 for r in rounds)
    assert rounds[1]["validation_bpb"] > 0
    assert sorted(json.loads((plan.work / "clients.json").read_text())) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda r, b: b.update(encode({"model.norm.weight": np.full(32, np.nan, np.float32)})),
            "not finite",
        ),
        (lambda r, b: b.update(encode({"model.norm.weight": np.ones(1, np.float32)})), "shape"),
        (lambda r, b: b.update(encode({"model.norm.weight": np.ones(32, np.float16)})), "type"),
        (lambda r, b: b.pop("model.norm.weight"), "names differ"),
        (lambda r, b: b.clear(), "names differ"),
        (lambda r, b: r["metrics"].update(tokens=10**12), "asked for at most"),
        (lambda r, b: r["metrics"].update(tokens=-60), "asked for at most"),
        (lambda r, b: r["metrics"].update(loss=float("nan")), "loss"),
        (lambda r, b: r["metrics"].clear(), "loss"),
        (lambda r, b: (_ for _ in ()).throw(RuntimeError("private words")), "RuntimeError"),
    ],
)
def test_a_bad_reply_is_excluded_and_logged_never_fatal(
    tmp_path, tiny_run, silos, bench, change, reason
) -> None:
    honest = dict(silos)
    silos["b"] = Saboteur(silos["b"], change)
    plan = run(tmp_path, tiny_run, silos, rounds=1)
    record = history(plan)[0]
    assert list(record["excluded"]) == ["b"]
    assert reason in record["excluded"]["b"]
    assert "private words" not in record["excluded"]["b"]
    assert not record["void"]
    state = read_round(plan.work / "rounds" / "round-000001.frame")
    assert state.done == 1
    assert all(np.isfinite(value).all() for value in state.weights.values())
    assert honest["a"]


def test_too_few_replies_leave_the_weights_and_end_the_run(
    tmp_path, tiny_run, silos, bench
) -> None:
    bad = {n: Saboteur(s, lambda r, b: b.clear()) for n, s in silos.items()}
    with pytest.raises(RoundError, match="2 rounds in a row missed their quorum"):
        run(tmp_path, tiny_run, bad, most_void_rounds=2)


def test_a_void_round_leaves_the_weights_as_they_were(tmp_path, tiny_run, silos, bench) -> None:
    bad = {n: Saboteur(s, lambda r, b: b.clear()) for n, s in silos.items()}
    plan = run(tmp_path, tiny_run, bad, rounds=1)
    assert history(plan)[0]["void"]
    assert final(plan) == fingerprint(bench.base_weights)


def test_a_client_with_another_base_is_left_out(tmp_path, tiny_run, silos, capsys) -> None:
    class Stranger(Saboteur):
        def answer(self, header, buffers):  # type: ignore[no-untyped-def]
            reply, out = self.silo.answer(header, buffers)
            if header["kind"] == "query":
                reply = {"info": {**reply["info"], "base": "0" * 64}}
            return reply, out

    silos["b"] = Stranger(silos["b"], lambda r, b: None)
    with pytest.raises(RoundError, match="2 of 3 clients"):
        run(tmp_path, tiny_run, silos, wait_s=0.5)
    assert "b is left out: it holds another base model" in capsys.readouterr().err


def test_two_runs_end_with_the_same_bits(tmp_path, tiny_run, make_silo, bench) -> None:
    ends = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        silos = {n: make_silo(n, s) for s, n in enumerate("abc", start=60)}
        for silo in silos.values():
            (silo.home / "state.frame").unlink(missing_ok=True)
        ends.append(final(run(folder, tiny_run, silos)))
    assert ends[0] == ends[1]


class _PowerCut(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 3, 5, 8])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, tiny_run, make_silo, bench, after) -> None:
    def fresh() -> dict[str, Any]:
        silos = {n: make_silo(n, s) for s, n in enumerate("abc", start=60)}
        for silo in silos.values():
            (silo.home / "state.frame").unlink(missing_ok=True)
        return silos

    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole", tiny_run, fresh())
    (tmp_path / "cut").mkdir()
    silos, seen = fresh(), []

    def cut(reply: Any, buffers: Any) -> None:
        seen.append(1)
        if len(seen) == after:
            raise _PowerCut

    with pytest.raises(_PowerCut):
        run(tmp_path / "cut", tiny_run, {n: Saboteur(s, cut) for n, s in silos.items()})
    again = {n: make_silo(n, s) for s, n in enumerate("abc", start=60)}
    plan = run(tmp_path / "cut", tiny_run, again)
    assert final(plan) == final(whole)
    assert history(plan) == history(whole)
