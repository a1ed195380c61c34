import json
import socket
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowerapp.frame import FrameError, pack, read_frame, unpack, write_frame

GOOD = pack({"kind": "train", "config": {"lr": 0.1}}, {"a": b"123", "b": b""})


def frame(header: bytes, body: bytes = b"") -> bytes:
    return b"CRF1" + struct.pack(">I", len(header)) + header + body


@settings(deadline=None)
@given(
    header=st.dictionaries(st.text().filter(lambda k: k != "buffers"), st.text() | st.integers()),
    buffers=st.dictionaries(st.text(), st.binary(max_size=50), max_size=4),
)
def test_what_is_packed_comes_back(header: dict[str, Any], buffers: dict[str, bytes]) -> None:
    assert unpack(pack(header, buffers)) == (header, buffers)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_a_frame_error(data: bytes) -> None:
    for candidate in (data, b"CRF1" + data, frame(data)):
        with pytest.raises(FrameError):
            unpack(candidate)


@pytest.mark.parametrize("cut", range(len(GOOD)))
def test_every_truncation_is_noticed(cut: int) -> None:
    with pytest.raises(FrameError):
        unpack(GOOD[:cut])


@pytest.mark.parametrize(
    ("table", "body"),
    [
        ([["a", -1]], b""),
        ([["a", 10**30]], b""),
        ([["a", True]], b"x"),
        ([["a", 1], ["a", 1]], b"xy"),
        ([["a", 1]], b"xy"),
        ([["a"]], b""),
        ([[1, 1]], b"x"),
        ({"a": 1}, b"x"),
        (None, b""),
    ],
)
def test_a_lying_table_is_a_frame_error(table: Any, body: bytes) -> None:
    with pytest.raises(FrameError):
        unpack(frame(json.dumps({"buffers": table}).encode(), body))


def test_a_deeply_nested_header_is_a_frame_error() -> None:
    with pytest.raises(FrameError):
        unpack(frame(b"[" * 200_000))


@pytest.mark.parametrize("header", [{"x": object()}, {"x": b"1"}, {"buffers": []}])
def test_a_header_that_cannot_travel_is_a_frame_error(header: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        pack(header, {})


def test_frames_follow_each_other_on_a_socket() -> None:
    here, there = socket.socketpair()
    with here, there:
        write_frame(here, GOOD)
        write_frame(here, b"")
        assert read_frame(there) == GOOD
        assert read_frame(there) == b""


def test_the_size_limit_holds_on_both_sides() -> None:
    here, there = socket.socketpair()
    with here, there:
        with pytest.raises(FrameError, match="limit"):
            write_frame(here, GOOD, limit=len(GOOD) - 1)
        write_frame(here, GOOD)
        with pytest.raises(FrameError, match="limit"):
            read_frame(there, limit=len(GOOD) - 1)


def test_a_caller_who_hangs_up_is_noticed() -> None:
    here, there = socket.socketpair()
    with there:
        with here:
            here.sendall(struct.pack(">Q", 100) + b"only this")
        with pytest.raises(FrameError, match="hung up"):
            read_frame(there)
