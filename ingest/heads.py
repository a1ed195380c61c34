"""The head of an HTTP answer, read quickly where it is plain.

`http.client` hands header fields to the parser of e-mails, which takes a twelfth of a crawl's CPU
time. Heads of nothing but `Name: value` lines need none of what it can do; all others go to it.
"""

import http.client
import re
from email.parser import Parser
from types import FunctionType
from typing import Any, BinaryIO

__all__ = ["Answer", "parse_head"]

PLAIN = re.compile(rb"([!-9;-~]+):[ \t]*([^\r\n\x0b\x0c\x1c-\x1e\x85]*)\r?\n")
"""A field on a line of its own; no line break in it that any parser knows."""
LONGEST, MOST = 65_536, 100
"""Of a line, bytes; of lines (both as in http.client)."""


def parse_head(file: BinaryIO, **_: Any) -> http.client.HTTPMessage:
    """Header fields up to the empty line: what `http.client.parse_headers` gives.

    Raises LineTooLong or HTTPException for too much of them.
    """
    lines = _lines(file)
    message = http.client.HTTPMessage()
    for line in lines[:-1]:
        field = PLAIN.fullmatch(line)
        if field is None:
            text = b"".join(lines).decode("iso-8859-1")
            return Parser(_class=http.client.HTTPMessage).parsestr(text)
        name, value = field.groups()
        message.set_raw(name.decode("ascii"), value.decode("iso-8859-1"))
    return message


def _lines(file: BinaryIO) -> list[bytes]:
    lines: list[bytes] = []
    while not lines or lines[-1] not in (b"\r\n", b"\n", b""):
        lines.append(file.readline(LONGEST + 1))
        if len(lines[-1]) > LONGEST:
            raise http.client.LineTooLong("header line")
        if len(lines) > MOST:
            raise http.client.HTTPException(f"got more than {MOST} headers")
    return lines


class Answer(http.client.HTTPResponse):
    """The library's own reading of an answer, with this parser in place of the one of e-mails."""

    begin = FunctionType(
        http.client.HTTPResponse.begin.__code__,
        {**vars(http.client), "parse_headers": parse_head},
        "begin",
    )
