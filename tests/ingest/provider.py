"""A server that speaks the provider's documented API, as far as a client needs it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

HOST = "api.provider.example"
KEY = "a-key"
NOT_READY = {"status": "building", "message": "Snapshot is building, try again in 10s"}


@dataclass
class Provider:
    """What it knows, and what it was asked."""

    records: list[Any] = field(default_factory=list)
    """Of every snapshot."""
    progress: list[str] = field(default_factory=lambda: ["starting", "running", "ready"])
    """Status at each look; the last one stays."""
    building: int = 0
    """Downloads that are answered with 202 first."""
    troubles: list[tuple[str, int, Any]] = field(default_factory=list)
    """(start of a path, status, body): answered once each, in order; status 0 hangs up."""
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    """(method, path, body)"""
    port: int = 0

    @property
    def connect(self) -> dict[str, str]:
        return {f"{HOST}:80": f"127.0.0.1:{self.port}"}

    def orders(self) -> list[Any]:
        return [body for method, _, body in self.asked if method == "POST"]

    def answer(self, method: str, path: str, body: Any, key: str) -> tuple[int, Any]:
        self.asked.append((method, path, body))
        if key != f"Bearer {KEY}":
            return 401, {"error": "Invalid credentials"}
        for trouble in self.troubles:
            if path.startswith(trouble[0]):
                self.troubles.remove(trouble)
                return trouble[1], trouble[2]
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        place = parts.path.strip("/").split("/")
        if method == "POST" and place == ["datasets", "v3", "trigger"]:
            return (200, {"snapshot_id": "s_1"}) if body else (400, "No data to trigger")
        if method == "POST" and place == ["datasets", "filter"]:
            self.records = self.records[: body["records_limit"]]
            return 200, {"snapshot_id": "snap_1"}
        if place[:3] == ["datasets", "v3", "progress"]:
            status = self.progress.pop(0) if len(self.progress) > 1 else self.progress[0]
            why = {"error_message": "no page could be opened"} if status == "failed" else {}
            return 200, {"snapshot_id": place[3], "status": status, **why}
        if place[:3] == ["datasets", "v3", "snapshot"]:
            if self.building:
                self.building -= 1
                return 202, NOT_READY
            size, part = int(query["batch_size"]), int(query["part"])
            rows = self.records[size * (part - 1) : size * part]
            if not rows:
                return 400, "Snapshot is empty" if part == 1 else "Invalid part"
            return 200, "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
        return 404, {"error": "no such endpoint"}


@contextmanager
def provide() -> Iterator[Provider]:
    """Run it on a free loopback port while the block runs."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            key = self.headers.get("Authorization", "")
            status, said = provider.answer(self.command, self.path, body, key)
            if not status:
                self.close_connection = True
                return
            data = (said if isinstance(said, str) else json.dumps(said)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider.port = server.server_port
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
