"""Fixtures: a server that obeys the test, and a small demo run that several tests read."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from commonroot.artifact import Artifact
from ingest import clean, gather
from ingest.demo.site import DemoConfig
from ingest.sources.web import WebConfig
from tests.ingest.webserver import Site, serve

SMOKE = Path(__file__).parents[2] / "configs/smoke.toml"


def demo_cleaning() -> clean.CleanConfig:
    """How the demo's pages are cleaned."""
    return clean.CleanConfig.model_validate(tomllib.loads(SMOKE.read_text("utf-8"))["clean"])


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as told:
        yield told


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artifact, Artifact]:
    """(run folder, 1-web, 2-corpus) of a small demo."""
    run_dir = tmp_path_factory.mktemp("demo")
    config = gather.GatherConfig(web=WebConfig(max_pages=1000), demo=DemoConfig(pages=80))
    web = gather.run(config, run_dir)
    return run_dir, web, clean.run(demo_cleaning(), run_dir)
