"""Addresses that must not be connected, in every spelling that somebody has got through with."""

from collections.abc import Iterator
from ipaddress import IPv4Address

__all__ = ["PRIVATE", "PRIVATE_6", "spellings"]

PRIVATE = (
    "127.0.0.1", "127.255.255.254", "127.8.9.10", "0.0.0.0", "0.1.2.3", "10.0.0.1",
    "10.255.255.254", "100.64.0.1", "100.127.255.254", "169.254.169.254", "169.254.170.2",
    "172.16.0.1", "172.31.255.254", "192.0.0.8", "192.168.0.1", "192.168.255.254", "198.18.0.1",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.0.2.1", "100.100.100.200",
)
"""Loopback, this network, private, shared, link-local and metadata, benchmarking, multicast,
reserved, broadcast, documentation."""
PRIVATE_6 = (
    "::1", "::", "fe80::1", "fe80::1%25lo", "fe80::1%lo", "fe80::1%251", "fc00::1", "fd00:ec2::254",
    "fd12:3456:789a::1", "ff02::1", "ff0e::1", "fec0::1", "2001:db8::1", "100::1",
    "0:0:0:0:0:0:0:1", "0000:0000:0000:0000:0000:0000:0000:0001", "0::1", "::0001",
)


def spellings(address: str, port: int) -> Iterator[str]:
    """URLs of port `port` that lead to an IPv4 address, or that some parser takes for it."""
    for host in _hosts(address):
        yield f"http://{host}:{port}/"
    a = f"{address}:{port}"
    yield f"https://{a}/"
    yield f"http://public.example@{a}/"
    yield f"http://user:pass@{a}/"
    yield f"http://public.example%40{a}/"
    yield f"http://{a}#@public.example/"
    yield f"http://{a}?@public.example/"
    yield f"http://{a}\\@public.example/"
    yield f"http://public.example\\@{a}/"
    yield f"http://public.example:80@{a}/"
    yield f"http://public.example:80#@{a}/"
    yield f"http:\\\\{a}/"
    yield f"http:///{a}/"
    yield f"http:/{a}/"
    yield f"//{a}/"
    yield f"HTTP://{a}/"
    yield f" http://{a}/"
    yield f"http://\t{a}/"
    yield f"http://{a[:4]}\n{a[4:]}/"
    yield f"http://{a}\x00.public.example/"
    yield f"http://{a}%00.public.example/"
    yield f"http://{a},public.example/"
    yield f"http://{a} public.example/"


def _hosts(address: str) -> Iterator[str]:
    number = int(IPv4Address(address))
    a, b, c, d = parts = [int(part) for part in address.split(".")]
    yield address
    yield address + "."
    yield str(number)
    yield hex(number)
    yield f"0X{number:08X}"
    yield f"0{number:o}"
    yield f"{number + 2**32}"
    yield ".".join(hex(part) for part in parts)
    yield ".".join(f"0{part:o}" for part in parts)
    yield ".".join(f"{part:04o}" for part in parts)
    yield ".".join(f"{part:03d}" for part in parts)
    yield f"{hex(a)}.0{b:o}.{c}.{d}"
    yield f"{a}.{b}.{(c << 8) + d}"
    yield f"{a}.{(b << 16) + (c << 8) + d}"
    yield f"{hex(a)}.{hex((b << 16) + (c << 8) + d)}"
    yield "".join(f"%{ord(char):02x}" for char in address)
    yield address.translate(_shifted(0xFF10))
    yield address.translate({**_shifted(0x245F), ord("0"): "\u24ea"})
    yield address.translate(_shifted(0x660))
    yield address.translate(_shifted(0x1D7CE))
    for dot in ("\u3002", "\uff0e", "\uff61"):
        yield address.replace(".", dot)
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    yield f"[::ffff:{address}]"
    yield f"[::ffff:{high}:{low}]"
    yield f"[0:0:0:0:0:ffff:{high}:{low}]"
    yield f"[::{address}]"
    yield f"[::{high}:{low}]"
    yield f"[::ffff:0:{address}]"
    yield f"[2002:{high}:{low}::1]"
    yield f"[64:ff9b::{address}]"
    yield f"[64:ff9b:1::{high}:{low}]"
    yield f"[2001:0:{high}:{low}::{number >> 16 ^ 0xFFFF:x}:{number & 0xFFFF ^ 0xFFFF:x}]"
    yield f"[2606:4700::5efe:{high}:{low}]"
    yield f"[::ffff:{address}%25lo]"


def _shifted(zero: int) -> dict[int, str]:
    return {ord("0") + digit: chr(zero + digit) for digit in range(10)}
