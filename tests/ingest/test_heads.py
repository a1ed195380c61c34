"""Heads of answers: read as the standard library reads them, whatever they hold."""

import http.client
import io
import random

import pytest

from ingest.heads import parse_head

PIECES = (
    b"Content-Type: text/html", b"Content-Length: 12", b"ETag: \"x\"", b"X:", b"X", b":", b" ",
    b"\t", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\xc3\xa9",
    b"\xff", b"\x00", b"X-Robots-Tag: noai, none", b"From x", b"a b: c",
    b"Content-Type: multipart/x",
    b"Link: <http://x.example/>; rel=license", b"Transfer-Encoding: chunked", b"  folded",
)


def _read(read: object, data: bytes) -> object:
    file = io.BytesIO(data)
    try:
        message = read(file)  # type: ignore[operator]
    except http.client.HTTPException as error:
        return type(error), str(error)
    return message.items(), message.get("content-type"), message.get_all("X"), file.tell()


@pytest.mark.parametrize("seed", range(4))
def test_any_head_is_read_as_the_library_reads_it(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(2_000):
        data = b"".join(draw.choices(PIECES, k=draw.randrange(12)))
        data += draw.choice((b"", b"\r\n\r\n"))
        assert _read(parse_head, data) == _read(http.client.parse_headers, data), data


def test_too_much_of_a_head_is_refused() -> None:
    for data in (b"X: 1\r\n" * 200, b"X: " + b"a" * 70_000 + b"\r\n\r\n"):
        assert _read(parse_head, data) == _read(http.client.parse_headers, data)
        with pytest.raises(http.client.HTTPException):
            parse_head(io.BytesIO(data))
