import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    load_ssh_private_key,
    load_ssh_public_key,
)

from federate.engines.keys import make_node_key, make_server_keys


def handshake(folder: Path, ca: Path, name: str) -> str:
    """TLS between a server with the keys of `folder` and a client that trusts `ca` only."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    client = ssl.create_default_context(cafile=str(ca))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    here, there = socket.socketpair()

    def accept() -> None:
        try:
            server.wrap_socket(there, server_side=True).close()
        except OSError:
            there.close()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        with client.wrap_socket(here, server_hostname=name) as secure:
            return secure.version() or ""
    finally:
        here.close()
        thread.join()


def test_a_node_that_has_the_ca_can_call_the_server(tmp_path: Path) -> None:
    make_server_keys(tmp_path, ["fl.example.org", "192.0.2.7"])
    for name in ("127.0.0.1", "localhost", "fl.example.org", "192.0.2.7"):
        assert handshake(tmp_path, tmp_path / "ca.pem", name) == "TLSv1.3"


def test_another_name_and_another_ca_are_not_trusted(tmp_path: Path) -> None:
    make_server_keys(tmp_path / "a")
    make_server_keys(tmp_path / "b")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path / "a", tmp_path / "a" / "ca.pem", "fl.example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path / "a", tmp_path / "b" / "ca.pem", "localhost")


def test_keys_are_kept_until_a_new_name_needs_new_ones(tmp_path: Path) -> None:
    make_server_keys(tmp_path, ["one.example.org"])
    first = (tmp_path / "ca.pem").read_bytes()
    make_server_keys(tmp_path, ["one.example.org"])
    assert (tmp_path / "ca.pem").read_bytes() == first
    make_server_keys(tmp_path, ["two.example.org"])
    assert (tmp_path / "ca.pem").read_bytes() != first
    assert handshake(tmp_path, tmp_path / "ca.pem", "two.example.org")


def test_private_keys_are_for_the_owner_only(tmp_path: Path) -> None:
    make_server_keys(tmp_path / "server")
    private, public = make_node_key(tmp_path / "node")
    for path in (tmp_path / "server" / "server.key", private):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "server").stat().st_mode) == 0o700
    assert b"PRIVATE" not in public.read_bytes() + (tmp_path / "server" / "ca.pem").read_bytes()


def test_the_authority_can_sign_nothing_more(tmp_path: Path) -> None:
    make_server_keys(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ca.pem",
        "server.key",
        "server.pem",
    ]
    ca = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    assert b"BEGIN" in (tmp_path / "server.key").read_bytes()
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_a_node_keeps_its_key(tmp_path: Path) -> None:
    private, public = make_node_key(tmp_path)
    before = private.read_bytes()
    assert make_node_key(tmp_path) == (private, public)
    assert private.read_bytes() == before
    key = load_ssh_private_key(before, None)
    assert key.public_key() == load_ssh_public_key(public.read_bytes())
