"""The certificate of a Flower server and the key pairs of its nodes.

A deployment has its own small certificate authority: nodes and submitters need its public part
(`ca.pem`) only. Private keys never leave the folder in which they are made (files 0600).
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["make_node_key", "make_server_keys"]

DAYS = 365
ENCODING = serialization.Encoding
FORMAT = serialization.PrivateFormat
PLAIN = serialization.NoEncryption()


def make_server_keys(folder: Path, names: Sequence[str] = ()) -> None:
    """Make `ca.pem`, `server.pem` and `server.key` in `folder` (0700).

    The certificate is good for `names` (host names or addresses) and for loopback. What is there
    already is kept while it covers the names. The authority's private key is not kept at all: other
    names need a new authority, and nobody can sign a second server with the old one.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    hosts = sorted({*names, "localhost", "127.0.0.1", "::1"})
    kept = all((folder / name).exists() for name in ("ca.pem", "server.pem", "server.key"))
    if kept and set(hosts) <= set(_names(folder / "server.pem")):
        return
    ca_key, key = _key(), _key()
    ca_name = _name("commonroot certificate authority")
    ca = _certificate(ca_name, ca_key, ca_name, ca_key, [], ca=True)
    leaf = _certificate(_name("commonroot server"), key, ca_name, ca_key, hosts, ca=False)
    _write_private(folder / "server.key", key.private_bytes(ENCODING.PEM, FORMAT.PKCS8, PLAIN))
    (folder / "server.pem").write_bytes(leaf.public_bytes(ENCODING.PEM))
    (folder / "ca.pem").write_bytes(ca.public_bytes(ENCODING.PEM))


def make_node_key(folder: Path) -> tuple[Path, Path]:
    """The node's private and public key files in `folder`, made there if they are missing."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private, public = folder / "node.key", folder / "node.pub"
    if not private.exists():
        key = _key()
        _write_private(private, key.private_bytes(ENCODING.PEM, FORMAT.OpenSSH, PLAIN))
        public.write_bytes(
            key.public_key().public_bytes(ENCODING.OpenSSH, serialization.PublicFormat.OpenSSH)
        )
    return private, public


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def _write_private(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _names(certificate: Path) -> list[str]:
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    if loaded.not_valid_after_utc < datetime.datetime.now(datetime.UTC):
        return []
    names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
    *,
    ca: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
    )
    for extension, critical in _extensions(key, issuer_key, hosts, ca):
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA384())


def _extensions(
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
    ca: bool,
) -> list[tuple[x509.ExtensionType, bool]]:
    # OpenSSL's strict mode (Python 3.13 and later) asks for both key identifiers and the key usage.
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (authority, False),
        (
            x509.KeyUsage(
                digital_signature=not ca,
                key_cert_sign=ca,
                crl_sign=ca,
                encipher_only=False,
                decipher_only=False,
                **usage,
            ),
            True,
        ),
    ]
    if hosts:
        alternatives = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
        extensions.append((alternatives, False))
        extensions.append((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False))
    return extensions
