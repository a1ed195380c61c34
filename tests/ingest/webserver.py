"""A small web server that does what a test tells it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOST = "site.example"

Route = Callable[[BaseHTTPRequestHandler], None] | tuple[int, dict[str, str], bytes] | str


class Site:
    """Routes by path; `seen` lists the paths that were asked for."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.seen: list[str] = []
        self.port = 0

    @property
    def connect(self) -> dict[str, str]:
        return {f"{HOST}:80": f"127.0.0.1:{self.port}"}


@contextmanager
def serve() -> Iterator[Site]:
    """Run the server on a free loopback port while the block runs."""
    told = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            told.seen.append(self.path)
            route = told.routes.get(self.path, (404, {}, b"nothing here"))
            if callable(route):
                self.close_connection = True
                route(self)
                return
            if isinstance(route, str):
                route = (200, {"Content-Type": "text/html; charset=utf-8"}, route.encode())
            status, headers, body = route
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: Any) -> None:
            return

    server = Server(("127.0.0.1", 0), Handler)
    told.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
