"""The demo site's server: named hosts on one loopback port, with an access log.

Pages have an ETag; one that is asked for with it again is answered by 304.
"""

import gzip
import json
import threading
import zlib
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import Field

from commonroot.config import Section
from ingest.demo.annex import HOSTS, Answer
from ingest.demo.pages import Table, build
from ingest.demo.plan import ATLAS, WIKI, plan

__all__ = ["DemoConfig", "DemoSite"]


class DemoConfig(Section):
    """A site of real text on loopback, so that the whole path runs without the internet."""

    enabled: bool = True
    """Serve the site during the crawl and add it to the seeds."""
    pages: int = Field(default=1500, ge=40, le=6000)
    """Article pages altogether, duplicates, refused and worthless ones included."""
    seed: int = 0
    """Chooses other texts and other places for the trouble."""


class DemoSite:
    """Context manager: serves while the block runs. `log` is appended to, one line a request."""

    def __init__(self, config: DemoConfig, log: Path) -> None:
        self._pages = plan(config.pages, config.seed)
        self._log = log
        self._server = _Server(build(self._pages, config.seed), log)
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, args=(0.05,), daemon=True)

    @property
    def seeds(self) -> tuple[str, ...]:
        """Home pages of all hosts."""
        return tuple(f"http://{host}/" for host in (ATLAS, WIKI, *HOSTS))

    @property
    def connect(self) -> dict[str, str]:
        """Where the hosts really are, for the crawler's connect map."""
        address = f"127.0.0.1:{self._server.server_port}"
        return {f"{host}:80": address for host in (ATLAS, WIKI, *HOSTS)}

    def truth(self) -> bytes:
        """gzip of one JSON line a page; the same bytes for the same config."""
        lines = (json.dumps(page.truth(), ensure_ascii=False) for page in self._pages)
        return gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0)

    def __enter__(self) -> "DemoSite":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.log.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, table: Table, log: Path) -> None:
        self.table = table
        self.lock = threading.Lock()
        self.log = open(log, "a", encoding="utf-8")  # noqa: SIM115 (closed by the site)
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up (as one with a byte cap does) is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").partition(":")[0]
        answer = self.server.table.get((host, self.path)) or Answer(b"<p>Not found.</p>", 404)
        if answer.status == 200:
            tag = f'"{zlib.crc32(answer.body):08x}"'
            known = self.headers.get("If-None-Match") == tag
            fresh = Answer(b"", 304) if known else answer
            answer = replace(fresh, headers={**answer.headers, "ETag": tag})
        self._note(host, answer.status)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 304:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def _note(self, host: str, status: int) -> None:
        agent = self.headers.get("User-Agent", "")
        line = json.dumps({"host": host, "path": self.path, "status": status, "agent": agent})
        with self.server.lock:
            self.server.log.write(line + "\n")
            self.server.log.flush()

    def log_message(self, format: str, *args: object) -> None:
        """The access log takes the place of lines on stderr."""
