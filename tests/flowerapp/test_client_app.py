import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from flowerapp.client import app, client_app
from flowerapp.frame import pack, unpack

APP = Path(__file__).parents[2] / "flowerapp"


@pytest.fixture(autouse=True)
def _identity() -> None:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def context(**node: Any) -> Context:
    return Context(run_id=1, node_id=7, node_config=node, state=RecordDict(), run_config={})


def request(kind: str = "train", **config: Any) -> Message:
    content = RecordDict({"config": ConfigRecord(config)})
    content["arrays"] = ArrayRecord({"w": Array(np.ones((2, 3), np.float32))})
    return Message(content, dst_node_id=7, message_type=kind)


@pytest.mark.parametrize("kind", ["train", "evaluate", "query"])
def test_the_message_reaches_the_silo_and_its_answer_the_server(kind: str) -> None:
    asked = []

    def ask(address: str, frame: bytes) -> bytes:
        asked.append((address, *unpack(frame)))
        header = {"metrics": {"loss": 1.5}, "info": {"client": "c", "shares": ["w"]}}
        return pack(header, unpack(frame)[1])

    message = request(kind, round=3, lr=0.5)
    reply = client_app(ask)(message, context(silo="/s/0.sock"))
    npy = message.content["arrays"]["w"].data
    sent = {"kind": kind, "config": {"round": 3, "lr": 0.5}}
    assert asked == [("/s/0.sock", sent, {"w": npy})]
    array = reply.content["arrays"]["w"]
    assert array.data == npy
    assert array.shape == (2, 3)
    assert array.numpy().tolist() == np.ones((2, 3)).tolist()
    assert dict(reply.content["metrics"]) == {"loss": 1.5}
    assert dict(reply.content["info"]) == {"client": "c", "shares": ["w"]}


def test_an_empty_message_is_a_request_too() -> None:
    bare = Message(RecordDict(), dst_node_id=7, message_type="query")
    reply = client_app(lambda _, __: pack({}, {}))(bare, context(silo="x"))
    assert "arrays" not in reply.content
    assert dict(reply.content["info"]) == {}


def test_a_ray_node_finds_its_silo_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMMONROOT_SILOS", "/short/s")
    asked = []
    flower = client_app(lambda address, _: asked.append(address) or pack({}, {}))  # type: ignore[func-returns-value]
    node = {"partition-id": 4, "num-partitions": 9}
    flower(request(), context(**node))
    assert asked == ["/short/s/4.sock"]


@pytest.mark.parametrize(
    "answer",
    [
        b"no frame",
        pack({"metrics": {"text": "no number"}}, {}),
        pack({"info": {"deep": {"no": "scalar"}}}, {}),
        pack({}, {"w": b"no npy"}),
        pack({}, {"w": b"\x93NUMPY"}),
    ],
)
def test_a_senseless_answer_is_a_refusal(answer: bytes) -> None:
    reply = client_app(lambda _, __: answer)(request(), context(silo="x"))
    assert not reply.has_error()
    assert "could not pass the message on" in reply.content["info"]["refused"]


def test_no_exception_text_leaves_the_node() -> None:
    def ask(_: str, __: bytes) -> bytes:
        raise RuntimeError("private words")

    reply = client_app(ask)(request(), context(silo="x"))
    assert "private words" not in str(reply)
    assert "RuntimeError" in reply.content["info"]["refused"]


def test_a_missing_silo_is_a_refusal_without_its_path(tmp_path: Path) -> None:
    reply = app(request(), context(silo=str(tmp_path / "0.sock")))
    assert reply.content["info"]["refused"] == "no silo answers beside this node"
    assert str(tmp_path) not in str(reply)


def test_the_app_that_travels_imports_the_standard_library_and_flwr_only() -> None:
    allowed = sys.stdlib_module_names | {"flwr", "flowerapp"}
    for file in ("client.py", "frame.py", "__init__.py"):
        for node in ast.walk(ast.parse((APP / file).read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, file


@pytest.mark.parametrize("module", ["flowerapp.client", "flowerapp.server"])
def test_loading_the_app_loads_neither_torch_nor_our_own_packages(module: str) -> None:
    code = (
        f"import sys, {module}; print(sorted({{n.partition('.')[0] for n in sys.modules}} & "
        "{'torch', 'transformers', 'commonroot', 'federate', 'pretrain', 'ray'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
