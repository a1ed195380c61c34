"""The comparison: every arm once, uncertainty, controls, clients that no round has seen."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commonroot.artifact import Artifact
from federate import stage
from federate.comparison import stage as compare
from federate.comparison import study
from federate.comparison.arms import Trial
from federate.comparison.stage import CompareConfig
from federate.plan import FederateConfig
from federate.shards import stage as shards
from federate.shards.stage import ShardsConfig
from federate.silo import Silo, SiloBounds
from pretrain.model import Compute
from tests.conftest import make_text

from .conftest import MARKER

CLIENTS = 4
FULL = CompareConfig(
    seeds=2, iid=True, scratch_rounds=(1, 2), scratch_lr=4e-3, public_blocks=1, local_lr=4e-3
)


def rounds(**changes: Any) -> FederateConfig:
    settings = {
        "rounds": 2,
        "cohort": 2,
        "hold_out": 1,
        "evaluate_every": 1,
        "evaluate_blocks": 1,
        "test_blocks": 2,
        "local": {"steps": 2, "batch": 2, "lr": 4e-3, "replay": 0.5},
        "personal": {"steps": 2, "batch": 2, "lr": 4e-3},
        "silo": SiloBounds(piece_chars=400),
        "compute": Compute(threads=1, dtype="fp32"),
    }
    return FederateConfig.model_validate(settings | changes)


def build(run_dir: Path, tiny_run: Path, config: FederateConfig) -> Path:
    """A run folder with private shards and finished rounds."""
    for folder in ("2-corpus", "3-base"):
        shutil.copytree(tiny_run / folder, run_dir / folder)
    folders = []
    for number in range(CLIENTS):
        folder = run_dir / "private" / f"owner-{number}"
        folder.mkdir(parents=True)
        words = make_text(80 + number, 500).split()
        words[::15] = [MARKER] * len(words[::15])
        (folder / "notes.txt").write_text(" ".join(words), encoding="utf-8")
        folders.append(str(folder))
    shards.run(ShardsConfig(folders=tuple(folders)), run_dir)
    stage.run(config, run_dir)
    return run_dir


@pytest.fixture(scope="module")
def federated(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> Path:
    return build(tmp_path_factory.mktemp("compare"), tiny_run, rounds())


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, federated: Path) -> Artifact:
    """The whole comparison, on a copy: the original stays without one."""
    run_dir = tmp_path_factory.mktemp("compared") / "run"
    shutil.copytree(federated, run_dir)
    return compare.run(FULL, run_dir)


class PowerCut(BaseException):
    """Not an Exception: nothing on the way may swallow it."""


def cut_at(call: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """`real` until its call number `call`, which ends everything."""
    count = iter(range(1, 1000))

    def cut(*args: Any, **kwargs: Any) -> Any:
        if next(count) == call:
            raise PowerCut
        return real(*args, **kwargs)

    return cut


@pytest.mark.slow
def test_every_arm_is_measured_for_every_seed(compared: Artifact) -> None:
    metrics = compared.metrics
    arms = ("local_only", "centralised", "centralised_matched_updates", "federated")
    for arm in ("base", *arms, "personalised", "federated_iid"):
        spread = metrics["spread"][arm]["union_bpb"]
        assert metrics[arm]["union_bpb"] == pytest.approx(np.mean(spread["values"]))
        assert len(spread["values"]) == 2
        assert spread["low"] <= spread["mean"] <= spread["high"]
    for arm in arms:
        first, second = metrics["spread"][arm]["union_bpb"]["values"]
        assert first != second
    tokens = {arm: metrics[arm]["tokens"] for arm in (*arms, "personalised")}
    assert tokens["local_only"] == pytest.approx(tokens["personalised"], rel=0.1)
    assert 0.7 * tokens["federated"] < tokens["centralised"] <= tokens["federated"]
    assert tokens["federated"] + 300 < tokens["personalised"]
    assert metrics["seeds"] == 2
    assert 0 <= metrics["gain"]["personalised"]["share_of_clients"]["mean"] <= 1
    seeds = json.loads((compared.path / "seeds.json").read_text("utf-8"))
    worst = [max(seed["arms"]["base"]["clients"].values()) for seed in seeds]
    assert metrics["worst_decile"]["base"]["values"] == pytest.approx(worst)


@pytest.mark.slow
def test_bytes_stand_beside_those_of_the_private_text(compared: Artifact, federated: Path) -> None:
    moved = compared.metrics["bytes"]
    own = json.loads((federated / "5-federated" / "manifest.json").read_text("utf-8"))["metrics"]
    assert [moved[way] for way in ("up", "down", "final")] == [
        own["bytes_up"],
        own["bytes_down"],
        own["bytes_final"],
    ]
    whole = sum(path.stat().st_size for path in (federated / "private").rglob("*.txt"))
    # One client is held out, and pieces lose the white space between them.
    assert 0.7 * whole < moved["private_raw"] < 0.8 * whole
    assert moved["private_zstd_best"] <= moved["private_zstd"] < moved["private_raw"]


@pytest.mark.slow
def test_held_out_clients_stand_apart(compared: Artifact, federated: Path) -> None:
    rows = json.loads((compared.path / "unseen.json").read_text("utf-8"))
    assert [row["seed"] for row in rows] == [0, 1]
    asked = json.loads((federated / "5-federated" / "clients.json").read_text("utf-8"))
    assert [rows[0]["client"]] == [name for name in asked if not asked[name]["in_rounds"]]
    assert rows[0]["personalised"] == pytest.approx(
        asked[rows[0]["client"]]["personal_bpb"], rel=1e-6
    )
    seeds = json.loads((compared.path / "seeds.json").read_text("utf-8"))
    for seed, row in zip(seeds, rows, strict=True):
        for arm in seed["arms"].values():
            assert len(arm["clients"]) == CLIENTS - 1
            assert row["client"] not in arm["clients"]
    assert compared.metrics["unseen"]["clients"] == 2
    assert "Clients that no round has seen" in (compared.path / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_both_starts_are_compared_after_the_same_rounds(compared: Artifact) -> None:
    found = compared.metrics["from_scratch"]
    assert [row["rounds"] for row in found["at"]] == [1, 2]
    for row in found["at"]:
        assert row["difference"] == pytest.approx(row["scratch"] - row["base"])
        assert row["base"] != row["scratch"]
    assert found["at"][0]["difference"] > 0.1
    assert [point[0] for point in found["curves"]["scratch"]] == [1, 2]


@pytest.mark.slow
def test_the_report_shows_what_was_asked_for_and_no_private_text(compared: Artifact) -> None:
    page = (compared.path / "report.html").read_text("utf-8")
    for wanted in ("IID control", "random weights", "zstd", "Means over 2 seeds", "95 %"):
        assert wanted in page
    assert page.count("<svg") == 4
    for path in compared.path.rglob("*"):
        assert MARKER.encode() not in path.read_bytes()


@pytest.mark.slow
def test_nothing_is_left_of_the_rounds_made_again(compared: Artifact) -> None:
    homes = compared.path.parent / "silos"
    assert len(list(homes.glob("*/ledger.jsonl"))) == CLIENTS
    assert not list((homes / "compare").rglob("*"))
    assert not (compared.path / "reruns").exists()
    assert not compare.run(FULL, compared.path.parent).fresh


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "name", "call"),
    [
        (study, "train_alone", 2),  # in an arm of the first seed
        (Silo, "_train", 6),  # the second seed's rounds
        (study, "compare_starts", 1),
    ],
)
def test_a_killed_comparison_resumes_and_ends_as_an_unbroken_one(
    federated: Path,
    compared: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    call: int,
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(federated, run_dir)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, cut_at(call, getattr(where, name)))
        with pytest.raises(PowerCut):
            compare.run(FULL, run_dir)
    arms = run_dir / "6-comparison.partial" / "arms"
    kept = {str(path.relative_to(arms).with_suffix("")) for path in arms.rglob("*.json")}
    assert "centralised" in kept
    trained: set[str] = set()
    real = study.train_alone

    def watched(trial: Trial, client: str, lr: float, steps: int) -> int:
        trained.add(f"local_only{'-1' if trial.rounds.seed else ''}/{client}")
        return real(trial, client, lr, steps)

    monkeypatch.setattr(study, "train_alone", watched)
    assert compare.run(FULL, run_dir).digest == compared.digest
    assert not trained & kept
    assert len(trained | {piece for piece in kept if "local_only" in piece}) == 2 * (CLIENTS - 1)


@pytest.mark.slow
def test_workers_make_the_same_comparison(
    compared: Artifact, tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = build(tmp_path / "run", tiny_run, rounds(workers=2))
    monkeypatch.setattr(study, "one_client", cut_at(1, study.one_client))
    monkeypatch.setattr(study, "train_pooled", cut_at(1, study.train_pooled))
    made = compare.run(FULL.model_copy(update={"seeds": 1, "scratch_rounds": ()}), run_dir)
    seeds = [json.loads((path / "seeds.json").read_text()) for path in (made.path, compared.path)]
    assert seeds[0][0]["arms"] == seeds[1][0]["arms"]


@pytest.mark.slow
def test_without_the_switches_there_is_none_of_it(tmp_path: Path, tiny_run: Path) -> None:
    run_dir = build(tmp_path / "run", tiny_run, rounds(hold_out=0))
    made = compare.run(CompareConfig(public_blocks=1, matched_updates=False), run_dir)
    assert not {"unseen", "from_scratch", "federated_iid", "gap_closed_matched_updates"} & set(
        made.metrics
    )
    assert made.metrics["clients"] == CLIENTS
    assert made.metrics["spread"]["federated"]["union_bpb"]["low"] is None
    page = (made.path / "report.html").read_text("utf-8")
    for unwanted in ("no round has seen", "IID", "random weights", "±", "over seeds"):
        assert unwanted not in page
    assert not (run_dir / "silos" / "compare").exists()


@pytest.mark.slow
def test_tuned_rates_are_shown_and_taken(federated: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(federated, run_dir)
    # At 1e-9 nothing is learnt, so the other one must win everywhere.
    section = CompareConfig(tune=True, grid=(1e-9, 3e-3), tune_share=0.5, public_blocks=1)
    made = compare.run(section, run_dir)
    table = json.loads((made.path / "tuning.json").read_text("utf-8"))
    arms = {"federated", "local_only", "centralised", "centralised_matched_updates"}
    assert table.keys() == arms | {"personalised"}
    for arm in arms:
        assert [lr for lr, _ in table[arm]["tried"]] == [1e-9, 3e-3]
        assert table[arm]["best"] == 3e-3
    lrs = made.metrics["lr"]
    assert lrs["centralised"] == lrs["local_only"] == 3e-3
    assert lrs["federated"] == rounds().local.lr
    page = (made.path / "report.html").read_text("utf-8")
    assert "configured and used: 0.004" in page
    assert "with 50% of the steps" in page
