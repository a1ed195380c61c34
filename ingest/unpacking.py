"""What unpacking an answer may cost, beyond the cap on what comes out of it.

gzip and deflate keep a window of 32 KB, zstd touches no more of its window than it has written.
Brotli fills its whole window before it hands anything out, and the widest is 16 MB.
"""

from typing import Any

from urllib3.exceptions import DecodeError

__all__ = ["narrow"]

WIDEST = 0b1111
"""The first four bits of a stream whose window is 2^24 (RFC 7932, 9.1). Encoders take it for data
above 8 MB; one that is wider is not standard and brotli refuses it."""


def narrow(response: Any) -> Any:
    """An answer of urllib3 that will not unpack brotli of the widest window: DecodeError."""
    if "br" in str(response.headers.get("Content-Encoding", "")).lower():
        response._init_decoder()
        decoder = getattr(response, "_decoder", None)
        for each in getattr(decoder, "_decoders", [decoder]):
            if hasattr(each, "_decompress"):
                each._decompress = _checked(each._decompress)
    return response


def _checked(unpack: Any) -> Any:
    begun = False

    def checked(data: bytes, **limits: Any) -> bytes:
        nonlocal begun
        if data and not begun:
            begun = True
            if data[0] & WIDEST == WIDEST:
                raise DecodeError("brotli with a window of 16 MB")
        unpacked: bytes = unpack(data, **limits)
        return unpacked

    return checked
