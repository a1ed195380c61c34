"""The ClientApp: hands each message to the silo beside this node and passes the answer back.

It runs wherever Flower starts it, on code that came over the network, and so it holds no data, no
model and no path but that of the silo's socket. What may leave is decided behind that socket.
"""

from __future__ import annotations

import ast
import os
import socket
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp

from flowerapp.frame import FrameError, pack, read_frame, unpack, write_frame

__all__ = ["Ask", "app", "ask_over_unix_socket", "client_app"]

Ask = Callable[[str, bytes], bytes]
"""(address of the silo, request frame) -> answer frame."""


def client_app(ask: Ask) -> ClientApp:
    """A ClientApp whose three handlers send one frame each through `ask`."""
    flower = ClientApp()

    def handle(message: Message, context: Context) -> Message:
        return Message(_handle(ask, message, context), reply_to=message)

    flower.train()(handle)
    flower.evaluate()(handle)
    flower.query()(handle)
    return flower


def _handle(ask: Ask, message: Message, context: Context) -> RecordDict:
    # An exception would carry its text to the server: only its type may go.
    try:
        header, buffers = unpack(ask(_address(context), _request(message)))
        return _reply(header, buffers)
    except (FileNotFoundError, ConnectionError):
        return _refusal("no silo answers beside this node")
    except Exception as error:
        return _refusal(f"the node could not pass the message on ({type(error).__name__})")


def _address(context: Context) -> str:
    config = context.node_config
    if "silo" in config:
        return str(config["silo"])
    # Ray's virtual nodes know only their number; the launcher's environment names the folder.
    return str(Path(os.environ["COMMONROOT_SILOS"], f"{config['partition-id']}.sock"))


def _request(message: Message) -> bytes:
    content = message.content
    arrays = content.array_records.get("arrays", ArrayRecord())
    config = content.config_records.get("config", ConfigRecord())
    header = {"kind": message.metadata.message_type, "config": dict(config)}
    return pack(header, {name: array.data for name, array in arrays.items()})


def _reply(header: Mapping[str, Any], buffers: Mapping[str, bytes]) -> RecordDict:
    if "refused" in header:
        return _refusal(str(header["refused"]))
    content = RecordDict(
        {
            "metrics": MetricRecord(dict(header.get("metrics", {}))),
            "info": ConfigRecord(dict(header.get("info", {}))),
        }
    )
    if buffers:
        content["arrays"] = ArrayRecord({name: _array(data) for name, data in buffers.items()})
    return content


def _refusal(reason: str) -> RecordDict:
    return RecordDict({"metrics": MetricRecord(), "info": ConfigRecord({"refused": reason})})


def _array(npy: bytes) -> Array:
    """A Flower array around .npy bytes; dtype and shape are read from the .npy header."""
    if npy[:6] != b"\x93NUMPY":
        raise FrameError("a buffer is no .npy")
    start, form = (10, "<H") if npy[6] == 1 else (12, "<I")
    (size,) = struct.unpack(form, npy[8:start])
    dtype, shape = _header(npy[start : start + size])
    return Array(dtype, shape, "numpy.ndarray", npy)


@lru_cache(4096)
def _header(text: bytes) -> tuple[str, tuple[int, ...]]:
    header = ast.literal_eval(text.decode("latin1").strip())
    return str(header["descr"]), tuple(header["shape"])


def ask_over_unix_socket(address: str, frame: bytes) -> bytes:
    """Send `frame` to the silo that listens at `address` and wait for its answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(address)
        write_frame(sock, frame)
        return read_frame(sock)


app = client_app(ask_over_unix_socket)
