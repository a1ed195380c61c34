import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from federate.local import Workbench
from federate.silo import Silo, SiloBounds
from federate.silo_process import write_spec
from federate.silo_server import short_folder, socket_of
from flowerapp.client import ask_over_unix_socket
from flowerapp.frame import pack, unpack
from pretrain.model import Compute

pytestmark = pytest.mark.slow


def command(shard: Path, home: Path, base: Path, sockets: Path) -> list[str | Path]:
    bench = Workbench(base, Compute(threads=1))
    spec = write_spec(Silo("site-a", shard, home, bench, SiloBounds(piece_chars=300)))
    return [
        sys.executable,
        "-P",
        "-m",
        "federate.silo_process",
        "--spec",
        spec,
        "--sockets",
        sockets,
    ]


def test_a_warm_silo_answers_and_leaves_on_sigterm(
    tmp_path: Path, tiny_run: Path, text: Callable[[int, int], str]
) -> None:
    shard = tmp_path / "shard"
    shard.mkdir()
    (shard / "notes.txt").write_text(text(7, 3000))
    # Whoever can write where the process starts must not get code into it.
    (tmp_path / "torch.py").write_text("raise SystemExit(99)")
    (tmp_path / "flowerapp.py").write_text("raise SystemExit(99)")
    with short_folder() as folder:
        line = command(shard, tmp_path / "home", tiny_run / "3-base", folder / "s")
        process = subprocess.Popen(line, cwd=tmp_path)
        door = socket_of(folder / "s", 0)
        end = time.monotonic() + 90
        while not door.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        assert process.poll() is None
        frame = pack({"kind": "query", "config": {}}, {})
        header, _ = unpack(ask_over_unix_socket(str(door), frame))
        assert header["info"]["client"] == "site-a"
        process.terminate()
        assert process.wait(20) == 0
        assert not door.exists()


def test_a_shard_without_text_opens_no_door(tmp_path: Path, tiny_run: Path) -> None:
    (tmp_path / "shard").mkdir()
    line = command(tmp_path / "shard", tmp_path / "home", tiny_run / "3-base", tmp_path / "s")
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "holds no text" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s").exists()
