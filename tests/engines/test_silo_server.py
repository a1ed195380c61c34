import socket
import stat
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from engine_echo import SECRET, EchoSilo, npy

from commonroot.errors import UsageError
from federate.silo_server import answer_frame, serve, short_folder
from flowerapp.client import ask_over_unix_socket
from flowerapp.frame import pack, read_frame, unpack

TRAIN = pack({"kind": "train", "config": {}}, {"w": npy([1.0, 2.0])})


class SlowSilo:
    """Counts how many requests are inside at once."""

    def __init__(self, inside: list[int]) -> None:
        self.inside = inside

    def answer(self, _: Any, __: Any) -> Any:
        self.inside[0] += 1
        self.inside[1] = max(self.inside)
        time.sleep(0.05)
        self.inside[0] -= 1
        return {"metrics": {}}, {}


def test_each_silo_answers_on_its_own_socket() -> None:
    with (
        short_folder() as folder,
        serve({"a b": EchoSilo(1), "c": EchoSilo(2)}, folder / "s") as at,
    ):
        for name, number in (("a b", 1), ("c", 2)):
            header, buffers = unpack(ask_over_unix_socket(str(at[name]), TRAIN))
            assert header["info"] == {"client": f"client-{number}"}
            assert buffers["w"] == npy([1.0 + number, 2.0 + number])


def test_sockets_are_for_the_owner_only_and_go_away() -> None:
    with short_folder() as folder:
        with serve({"a": EchoSilo(1)}, folder / "s") as at:
            assert stat.S_IMODE((folder / "s").stat().st_mode) == 0o700
            assert stat.S_IMODE(at["a"].stat().st_mode) == 0o600
        assert not at["a"].exists()


def test_a_socket_left_by_a_killed_silo_is_replaced() -> None:
    with short_folder() as folder:
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(folder / "0.sock"))
        stale.close()
        with serve({"a": EchoSilo(1)}, folder) as at:
            assert unpack(ask_over_unix_socket(str(at["a"]), TRAIN))[1]


def test_the_text_of_an_exception_stays(caplog: pytest.LogCaptureFixture) -> None:
    frame = pack({"kind": "train", "config": {"crash": [1]}}, {})
    answer = answer_frame(EchoSilo(1), frame)
    assert unpack(answer)[0] == {"refused": "the silo failed (ValueError)"}
    assert SECRET.encode() not in answer
    assert SECRET not in caplog.text
    assert "engine_echo.py" in caplog.text  # the owner learns where


def test_an_answer_that_cannot_be_packed_is_a_refusal() -> None:
    class Odd:
        def answer(self, _: Any, __: Any) -> Any:
            return {"metrics": {"x": object()}}, {}

    header, _ = unpack(answer_frame(Odd(), pack({}, {})))
    assert "unreadable" in header["refused"]


@pytest.mark.parametrize(
    "sent",
    [b"", b"\x00\x00", struct.pack(">Q", 1 << 60), struct.pack(">Q", 9) + b"GET / HTT"],
    ids=["nothing", "half a length", "huge", "not a frame"],
)
def test_garbage_does_not_stop_the_door(sent: bytes) -> None:
    with short_folder() as folder, serve({"a": EchoSilo(1)}, folder) as at:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(at["a"]))
            caller.sendall(sent)
            caller.shutdown(socket.SHUT_WR)
            caller.settimeout(5)
            assert b"refused" in read_frame(caller)
        assert unpack(ask_over_unix_socket(str(at["a"]), TRAIN))[1]


@pytest.mark.parametrize(("at_once", "most"), [(1, 1), (2, 2)])
def test_at_most_so_many_requests_run_together(at_once: int, most: int) -> None:
    inside = [0, 0]
    silos = {str(number): SlowSilo(inside) for number in range(3)}
    with short_folder() as folder, serve(silos, folder, at_once) as at:
        callers = [
            threading.Thread(target=ask_over_unix_socket, args=(str(at[name]), TRAIN))
            for name in [*silos, *silos]
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert inside == [0, most]


def test_a_path_too_long_for_a_socket_says_what_to_do(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    with (
        pytest.raises(UsageError, match="set TMPDIR to a folder with a short path"),
        serve({"a": EchoSilo(1)}, deep),
    ):
        pass


def test_a_short_folder_is_found_when_tmpdir_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with short_folder() as folder, serve({"a": EchoSilo(1)}, folder / "s") as at:
        assert unpack(ask_over_unix_socket(str(at["a"]), TRAIN))[1]
    assert not folder.exists()
