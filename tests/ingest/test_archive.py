"""The web archive: stock readers read it, a cut or damaged file costs one record."""

import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from warcio.archiveiterator import ArchiveIterator

from ingest import archive
from ingest.archive import Archive, Damaged, Stored, read_archive
from ingest.fetch import Response


def _response(index: int, body: bytes | None = None) -> Response:
    return Response(
        f"http://x.example/{index}?q=1",
        200,
        "OK",
        (("Content-Type", "text/html"), ("Content-Encoding", "gzip"), ("X-Robots-Tag", "all")),
        body if body is not None else b"<p>page %d</p>" % index,
        "192.0.2.7",
        "2026-01-02T03:04:05Z",
        (("User-Agent", "commonroot/0"),),
    )


def _write(path: Path, count: int) -> list[int]:
    with Archive(path, 0) as warc:
        offsets = []
        for index in range(count):
            warc.add(_response(index))
            offsets.append(warc.commit())
    return offsets


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    _write(tmp_path / "a.warc.gz", 3)
    items = [item for item in read_archive(tmp_path / "a.warc.gz") if isinstance(item, Stored)]
    assert [item.body for item in items] == [b"<p>page 0</p>", b"<p>page 1</p>", b"<p>page 2</p>"]
    assert items[1].url == "http://x.example/1?q=1"
    assert items[1].fetched_at == "2026-01-02T03:04:05Z"
    assert items[1].header("x-robots-tag") == "all"
    assert items[1].header("content-encoding") == ""  # the body is stored decoded


def test_a_stock_reader_finds_request_response_and_address(tmp_path: Path) -> None:
    _write(tmp_path / "a.warc.gz", 1)
    with open(tmp_path / "a.warc.gz", "rb") as file:
        records = [
            (record.rec_type, record.rec_headers.get_header("WARC-IP-Address"))
            for record in ArchiveIterator(file)
        ]
    assert records == [("warcinfo", None), ("response", "192.0.2.7"), ("request", None)]


def test_writing_goes_on_at_a_committed_offset(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    offsets = _write(path, 3)
    with Archive(path, offsets[0]) as warc:
        warc.add(_response(7))
    bodies = [item.body for item in read_archive(path) if isinstance(item, Stored)]
    assert bodies == [b"<p>page 0</p>", b"<p>page 7</p>"]


def test_one_damaged_record_costs_one_record(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    offsets = _write(path, 4)
    data = bytearray(path.read_bytes())
    for place in range(offsets[0] + 30, offsets[0] + 90):
        data[place] ^= 0xFF
    path.write_bytes(data)
    items = list(read_archive(path))
    assert sum(isinstance(item, Damaged) for item in items) == 1
    bodies = [item.body for item in items if isinstance(item, Stored)]
    assert bodies == [b"<p>page 0</p>", b"<p>page 2</p>", b"<p>page 3</p>"]


def test_a_file_that_ends_early_and_one_that_is_noise(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    offsets = _write(path, 2)
    path.write_bytes(path.read_bytes()[: offsets[0] + 100])
    items = list(read_archive(path))
    assert [item.body for item in items if isinstance(item, Stored)] == [b"<p>page 0</p>"]
    path.write_bytes(bytes(range(256)) * 10)
    assert [type(item) for item in read_archive(path)] == [Damaged]


def test_wherever_a_file_was_cut_the_loss_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    _write(path, 6)
    data, told = path.read_bytes(), 0
    whole = {item.url: item.body for item in read_archive(path) if isinstance(item, Stored)}
    ends = _member_ends(data)
    for cut in range(1, len(data), 17):
        path.write_bytes(data[:cut])
        items = list(read_archive(path))
        stored = [item for item in items if isinstance(item, Stored)]
        assert all(whole[item.url] == item.body for item in stored)
        assert (cut in ends) or len(items) > len(stored)
        told += len(items) - len(stored)
    assert told > 50


def test_a_body_that_was_changed_is_no_document(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    with Archive(path, 0) as warc:
        warc.add_resource("http://x.example/1", "text/plain", b"sand and stones " * 40)
        warc.add_resource("http://x.example/2", "text/plain", b"the sea grinds them " * 40)
    data = path.read_bytes()
    for at in range(0, len(data), 3):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        for item in read_archive(path):
            if isinstance(item, Stored):
                wanted = b"sand and stones " if item.url.endswith("1") else b"the sea grinds them "
                assert item.body == wanted * 40


def test_what_lies_behind_zeros_is_read_and_they_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    _write(path, 6)
    data = path.read_bytes()
    for at in range(0, len(data) - 100, 61):
        path.write_bytes(data[:at] + bytes(100) + data[at + 100 :])
        items = list(read_archive(path))
        assert len(items) >= 4
        stored = [item for item in items if isinstance(item, Stored)]
        assert len(stored) == 6 or len(items) > len(stored)


def _member_ends(data: bytes) -> set[int]:
    ends, left = set(), data
    while left:
        unpacker = zlib.decompressobj(wbits=31)
        unpacker.decompress(left)
        left = unpacker.unused_data
        ends.add(len(data) - len(left))
    return ends


def test_odd_header_fields_and_addresses_do_not_break_a_record(tmp_path: Path) -> None:
    folded = (("X-Folded", "one\r\n two"), ("X-Latin", "caf\xe9"), ("X-Wide", "\u20ac"))
    odd = replace(_response(0), headers=folded)
    with Archive(tmp_path / "a.warc.gz", 0) as warc:
        warc.add(odd)
        warc.add_resource("file:///f\u00fcr\r\nWARC-Type:x", "text/plain", "\u00e9".encode())
        warc.commit()
    first, second = read_archive(tmp_path / "a.warc.gz")
    assert isinstance(first, Stored)
    assert isinstance(second, Stored)
    assert (first.header("X-Folded"), first.header("X-Wide")) == ("one two", "\u20ac")
    assert (second.url, second.body) == ("file:///f\u00fcr%20WARC-Type:x", "\u00e9".encode())


def test_the_quick_reader_and_warcio_find_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.warc.gz"
    odd = (("X", "n\u00e4ive"), ("X-Empty", ""), ("Content-type", "text/html"), ("x-two", " a  b "))
    with Archive(path, 0) as warc:
        for index, body in enumerate((b"", b"\r\n\r\n", b"<p>" + b"x" * 100_000, b"\xff\x00\n")):
            warc.add(_response(index, body))
            warc.add(replace(_response(index, body), headers=odd, withheld="too-large"))
            warc.add_resource(f"file:///{index}.txt", "text/plain", body, "https://x.example/l")
    quick = list(read_archive(path))
    monkeypatch.setattr(archive, "members", lambda *_: iter(()))
    assert quick == list(read_archive(path))
    assert len(quick) == 12
