"""Whole runs: personal models, clients held out, early ends, the way back after divergence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federate.convergence import StopConfig
from federate.local import LocalSteps, Workbench
from federate.personalize import PersonalConfig
from federate.roundstate import BEST, FINAL, read_round
from federate.wire import fingerprint
from tests.federate import algorithm_runs
from tests.federate.algorithm_runs import Spy, federate, open_silos

TUNE = {"steps": 3, "batch": 2, "lr": 1e-2}


class _PowerCut(BaseException):
    pass


@pytest.mark.parametrize("method", ["finetune", "dual", "ditto"])
def test_a_personal_model_helps_its_client_and_stays_with_it(
    method: str, tmp_path: Path, bench: Workbench
) -> None:
    plain = federate(made(tmp_path / "plain"), bench, personal=PersonalConfig(**TUNE))
    how = PersonalConfig(method=method, **TUNE)
    ran = federate(made(tmp_path / "personal"), bench, personal=how)
    assert ran.digest == plain.digest  # what a client keeps for itself changes nothing for others
    assert (ran.clients == plain.clients) == (method == "finetune")
    assert any(row["personal_chosen"] for row in ran.clients.values())
    assert all(row["personal_tokens"] > 0 for row in ran.clients.values())
    gain = [row["bpb"] - row["personal_bpb"] for row in ran.clients.values()]
    assert np.mean(gain) > 0
    for name, spy in ran.silos.items():
        left = [out for _, out in spy.left]
        assert left == [out for _, out in plain.silos[name].left]
        assert [out for kind, out in spy.left if kind != "train"] == [{}] * spy_evaluations(spy)
        # A new process finds it where the silo keeps it.
        again = open_silos(tmp_path / "personal", bench)[name].silo
        weights = again.personal_weights("run1")
        assert fingerprint(weights) == fingerprint(spy.silo.personal_weights("run1"))
        bench.wear(ran.plan.config.lora)
        bench.load(weights)
        test = bench.eval_set(again.split.test, 2)
        assert bench.bits_per_byte(test) == pytest.approx(ran.clients[name]["personal_bpb"])


def spy_evaluations(spy: Spy) -> int:
    return sum(kind != "train" for kind, _ in spy.asked)


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("method", ["dual", "ditto"])
def test_a_restart_in_the_middle_changes_no_personal_model(
    method: str, tmp_path: Path, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = PersonalConfig(method=method, **TUNE)
    whole = federate(made(tmp_path / "whole"), bench, personal=how)
    cut, answer, served = made(tmp_path / "cut"), Spy.answer, []

    def fail(spy: Spy, header: dict[str, Any], buffers: dict[str, bytes]) -> Any:
        served.append(header["kind"])
        if served.count("train") == 5:
            raise _PowerCut
        return answer(spy, header, buffers)

    monkeypatch.setattr(algorithm_runs.Spy, "answer", fail)
    with pytest.raises(_PowerCut):
        federate(cut, bench, personal=how)
    monkeypatch.undo()
    resumed = federate(cut, bench, personal=how)
    assert resumed.clients == whole.clients
    for name, spy in resumed.silos.items():
        ends = [one.silo.personal_weights("run1") for one in (spy, whole.silos[name])]
        assert fingerprint(ends[0]) == fingerprint(ends[1])


def test_clients_held_out_never_train_for_others_but_get_their_own_model(
    tmp_path: Path, bench: Workbench
) -> None:
    how = PersonalConfig(**TUNE)
    ran = federate(tmp_path, bench, names="abcd", hold_out=1, rounds=3, personal=how)
    (away,) = [name for name, row in ran.clients.items() if not row["in_rounds"]]
    kinds = {name: [kind for kind, _ in spy.asked] for name, spy in ran.silos.items()}
    assert "train" not in kinds.pop(away)
    assert all(asked.count("train") == 3 for asked in kinds.values())
    splits = [ask.get("split") for kind, ask in ran.silos[away].asked if kind == "evaluate"]
    assert splits == ["test"]  # it has no say in which round is best
    row = ran.clients[away]
    assert row["personal_tokens"] > 0
    assert row["trained_batches"] == 0
    assert row["personal_bpb"] != row["bpb"] or not row["personal_chosen"]


def test_a_run_ends_at_its_target(tmp_path: Path, bench: Workbench, capsys: Any) -> None:
    free = federate(made(tmp_path / "free"), bench, rounds=5, evaluate_every=1)
    curve = [record["validation_bpb"] for record in free.rounds]
    stop = StopConfig(target_bpb=(curve[1] + curve[2]) / 2)
    ran = federate(made(tmp_path / "stop"), bench, rounds=5, evaluate_every=1, stop=stop)
    assert [record["validation_bpb"] for record in ran.rounds] == curve[:3]
    assert "the target of" in capsys.readouterr().err
    assert sorted(ran.clients) == ["a", "b", "c"]


def test_a_run_without_gain_ends_and_keeps_its_best(
    tmp_path: Path, bench: Workbench, capsys: Any
) -> None:
    stop = StopConfig(patience=2, min_gain=10.0)
    ran = federate(tmp_path, bench, rounds=9, evaluate_every=2, stop=stop)
    # The first measurement is always a gain.
    assert len(ran.rounds) == 6
    assert "no gain in 2 measurements" in capsys.readouterr().err


def test_after_divergence_a_run_goes_back_to_its_best_round(
    tmp_path: Path, bench: Workbench, capsys: Any
) -> None:
    wild = {"steps": 8, "batch": 1, "lr": 0.1}
    stop = StopConfig(diverged=0.2)
    ran = federate(
        tmp_path,
        bench,
        rounds=4,
        evaluate_every=1,
        local=LocalSteps(**wild),
        strategy="fedavg",
        server_lr=3.0,
        stop=stop,
        keep_best=False,
    )
    curve = [record["validation_bpb"] for record in ran.rounds]
    best = int(np.argmin(curve))
    assert max(curve[best:]) > curve[best] + 0.2
    said = capsys.readouterr().err
    assert f"validation diverged; back to the weights after round {best + 1}" in said
    kept = [read_round(tmp_path / "work" / "rounds" / name).weights for name in (BEST, FINAL)]
    assert curve[-1] > curve[best] + 0.2
    assert fingerprint(kept[0]) == fingerprint(kept[1])


@pytest.mark.slow
def test_a_strategy_of_another_package_runs_by_its_name(whole: Any, tmp_path: Path) -> None:
    from tests.benchmarks.federated.third_party import (
        federate_with_plugin,
        install,
        runs_as_it_should,
    )

    site = tmp_path / "site"
    install(site)
    run = whole.copy(tmp_path / "run", "pretrain", "shards")
    without = federate_with_plugin(run.path, tmp_path / "nothing", run.options)
    assert without["exit"] == 2
    assert "no commonroot.strategies named 'sign-majority'" in without["said"]
    seen = federate_with_plugin(run.path, site, run.options)
    assert runs_as_it_should(seen), seen
