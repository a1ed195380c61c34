import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from commonroot.errors import UsageError
from federate.engines.app import ROOT, stage_app

EXPECTED = [
    ".info/CONTENT",
    "flowerapp/__init__.py",
    "flowerapp/client.py",
    "flowerapp/frame.py",
    "flowerapp/server.py",
    "pyproject.toml",
]


def build(app: Path, out: Path) -> Path:
    out.mkdir()
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    env = {**os.environ, **quiet, "FLWR_HOME": str(out / "home")}
    flwr = Path(sys.executable).parent / "flwr"
    subprocess.run([flwr, "build", "--app", app], cwd=out, env=env, check=True, capture_output=True)
    (fab,) = out.glob("*.fab")
    return fab


@pytest.mark.slow
def test_the_fab_holds_the_app_folder_and_nothing_else(tmp_path: Path) -> None:
    # A copy with things that must not travel: building walks the whole app folder.
    app = tmp_path / "app"
    (app / "notes").mkdir(parents=True)
    (app / "notes" / "private.jsonl").write_text('{"text": "a private line"}\n')
    (app / "runs.md").write_text("private too")
    (app / "federate").mkdir()
    (app / "federate" / "silo.py").write_text("private = True")
    shutil.copy(ROOT / "pyproject.toml", app)
    shutil.copytree(ROOT / "flowerapp", app / "flowerapp")
    (app / "flowerapp" / "shard.json").write_text("{}")
    fab = build(app, tmp_path / "whole")
    assert sorted(zipfile.ZipFile(fab).namelist()) == EXPECTED
    # What our launchers submit is the same app, byte for byte.
    staged = build(stage_app(tmp_path / "staged"), tmp_path / "part")
    assert staged.read_bytes() == fab.read_bytes()


def test_staging_takes_only_python_files_of_the_app(tmp_path: Path) -> None:
    staged = stage_app(tmp_path / "staged")
    found = sorted(str(p.relative_to(staged)) for p in staged.rglob("*") if p.is_file())
    assert found == EXPECTED[1:]


def test_an_installation_without_sources_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="source checkout"):
        stage_app(tmp_path / "staged", tmp_path)
