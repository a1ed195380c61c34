import functools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.server_app import write_app, write_plan

sys.path.insert(0, str(Path(__file__).parent))  # for engine_echo, which child processes import too


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The real app folder with a ServerApp that runs the rounds of `engine_echo`."""
    return write_app(tmp_path / "app")


@pytest.fixture
def make_plan(tmp_path: Path) -> Callable[..., Path]:
    """Writes a plan for that ServerApp; its result lands in out.json beside it."""
    from engine_echo import rounds

    return functools.partial(write_plan, tmp_path, rounds)


@pytest.fixture
def no_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails if a process or a file of an engine is there after the test."""
    assert tmp_path.exists()  # made before temporary files move
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as place:
        # Engines tell their processes of folders in here.
        monkeypatch.setattr("tempfile.tempdir", place)
        yield
        end = time.monotonic() + 5
        while _told_of(place) and time.monotonic() < end:
            time.sleep(0.1)
        assert _told_of(place) == []
        assert list(Path(place).iterdir()) == []


def _told_of(place: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            if place.encode() in told:
                found.append(process.name)
    return found
