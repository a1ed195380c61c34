"""An outbound proxy on loopback, and the web behind it: wants a password, writes down every name.

It forwards plain HTTP and tunnels CONNECT, and answers in place of whatever host it is asked for.
"""

import asyncio
import base64
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

PASSWORD = "open-sesame"

Answer = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True)
class Asked:
    """One line of the proxy's log."""

    at: float
    user: str
    verb: str
    url: str
    status: int
    """What it answered; 0 if it hung up."""
    under_way: int
    """Requests in its hands at that moment, this one among them."""


@dataclass
class Proxy:
    """`answer(user, url)` is the web as that user sees it; `tunnel(user, host)` the status that
    CONNECT gets; 0 hangs up in both."""

    answer: Callable[[str, str], Answer]
    tunnel: Callable[[str, str], int] = lambda user, host: 200
    tls: ssl.SSLContext | None = None
    slow_s: float = 0.0
    gather: int = 0
    """Answers are held back until so many requests wait, or `slow_s` seconds."""
    log: list[Asked] = field(default_factory=list)
    connections: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    port: int = 0
    _wave: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def users(self, host: str = "") -> list[str]:
        """Names under which pages of a host were asked for, in order, repeats left out."""
        names = [a.user for a in self.log if a.verb == "GET" and host in ("", _host(a.url))]
        return list(dict.fromkeys(names))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = (OSError, asyncio.IncompleteReadError, asyncio.CancelledError, ValueError)
        with suppress(*gone):
            await self._talk(reader, writer)
        writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tunnelled_user = tunnelled_to = ""
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            verb, target, _ = head[0].split(" ", 2)
            user = tunnelled_user or _user(head)
            url = f"https://{tunnelled_to}{target}" if tunnelled_to else target
            if not user:
                self._note("", verb, url, 407)
                writer.write(_bytes((407, {"Proxy-Authenticate": 'Basic realm="x"'}, b"")))
                await writer.drain()
            elif verb == "CONNECT":
                status = self.tunnel(user, target.rpartition(":")[0])
                self._note(user, verb, target, status)
                if status != 200:
                    if status:
                        writer.write(f"HTTP/1.1 {status} No\r\n\r\n".encode())
                        await writer.drain()
                    return
                self.connections[user] += 1
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await writer.drain()
                await writer.start_tls(self.tls)
                tunnelled_user, tunnelled_to = user, target.removesuffix(":443")
            elif not await self._answered(user, verb, url, writer):
                return

    async def _answered(
        self, user: str, verb: str, url: str, writer: asyncio.StreamWriter
    ) -> bool:
        self.under_way += 1
        try:
            answer = self.answer(user, url)
            self._note(user, verb, url, answer[0])
            await self._hold()
            if not answer[0]:
                return False
            writer.write(_bytes(answer))
            await writer.drain()
            return True
        finally:
            self.under_way -= 1

    async def _hold(self) -> None:
        if self.slow_s and self.gather:
            if self.under_way >= self.gather:
                self._wave.set()
                self._wave = asyncio.Event()
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wave.wait(), self.slow_s)

    def _note(self, user: str, verb: str, url: str, status: int) -> None:
        self.log.append(Asked(time.time(), user, verb, url, status, self.under_way))


@contextmanager
def serve_proxy(proxy: Proxy) -> Iterator[Proxy]:
    """Run it on a free port while the block runs."""
    loop = asyncio.new_event_loop()
    ready, end = threading.Event(), asyncio.Event()

    async def run() -> None:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, backlog=2048)
        proxy.port = server.sockets[0].getsockname()[1]
        ready.set()
        await end.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    ready.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
        loop.close()


def certificates(folder: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    """A server's context for `name` (such as *.site.example), and the authority to trust."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "authority.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public


def _user(head: list[str]) -> str:
    for line in head[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "proxy-authorization":
            said = base64.b64decode(value.split()[1]).decode()
            user, _, password = said.rpartition(":")
            return user if password == PASSWORD else ""
    return ""


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _bytes(answer: Answer) -> bytes:
    status, headers, body = answer
    fields = {"Content-Type": "text/html", "Content-Length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body
