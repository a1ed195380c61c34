"""Files that were damaged and disks that are full: is every loss counted, is anything half-written?

A file of known documents is damaged in one place, at random, a few hundred times. Each document
must come out as it went in, or be missed by somebody who says so.
"""

import json
import os
import random
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ingest.archive import Archive, Damaged, read_archive
from ingest.fetch import FetchConfig
from ingest.sources.files import FilesConfig
from ingest.sources.found import Found
from ingest.sources.warc import WarcConfig
from tests.ingest.articles import article
from tests.ingest.webserver import HOST, serve

__all__ = ["measure"]

DOCUMENTS = 60
GZIP_MAGIC = b"\x1f\x8b\x08"
PAGES = 26
FOLDERS = {"gather": "1-web", "clean": "2-corpus"}
LIMITS_KB = (1, 8, 24, 64)
"""Sizes at which a file, or the disk, ends."""

Documents = dict[str, bytes]
Read = Callable[[Path], tuple[Documents, int]]
"""Path -> documents by address, and how many losses were counted."""


def measure(work: Path, quick: bool) -> dict[str, Any]:
    """`uncounted`: by format, damaged files of which a loss or a change went unsaid."""
    work.mkdir(parents=True)
    trials = 20 if quick else 400
    readers: dict[str, tuple[Path, Read]] = {
        "archive": (_warc(work / "a.warc.gz"), _read_archive),
        "warc.gz": (_warc(work / "b.warc.gz"), _read_warc),
        "parquet": (_parquet(work), _read_files),
    }
    seen: dict[str, Counter[str]] = {}
    for name, (path, read) in readers.items():
        seen[name] = _damage(path, read, trials)
    return {
        "trials": trials,
        "uncounted": {name: counts.pop("uncounted", 0) for name, counts in seen.items()},
        "documents": {name: dict(sorted(counts.items())) for name, counts in seen.items()},
        "disk_full": dict(_disk_full(work / "full", LIMITS_KB[-2:] if quick else LIMITS_KB)),
    }


def _damage(path: Path, read: Read, trials: int) -> Counter[str]:
    whole, _ = read(path)
    data, counts, draw = path.read_bytes(), Counter[str](), random.Random(7)
    assert len(whole) == DOCUMENTS
    for trial in range(trials):
        path.write_bytes(_damaged(data, trial, draw))
        found, losses = read(path)
        lost = sum(url not in found for url in whole)
        changed = sum(whole.get(url) != body for url, body in found.items())
        counts.update(lost=lost, kept=len(found))
        counts["uncounted"] += changed > 0 or (lost > 0) > (losses > 0)
    path.write_bytes(data)
    return counts


def _damaged(data: bytes, trial: int, draw: random.Random) -> bytes:
    """Cut short, one bit turned, a run of zeros, or rubbish put in.

    What is cut between two records is a whole file to everybody but the manifest's hash.
    """
    at = draw.randrange(len(data))
    if trial % 4 == 0:
        return data[: at + 1] if data[at:].startswith(GZIP_MAGIC) else data[:at]
    if trial % 4 == 1:
        return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
    if trial % 4 == 2:
        return data[:at] + bytes(len(data[at : at + 200])) + data[at + 200 :]
    return data[:at] + draw.randbytes(100) + data[at:]


def _body(number: int) -> bytes:
    return article(number % 26).encode() + str(number).encode()


def _warc(path: Path) -> Path:
    with Archive(path, 0) as warc:
        for number in range(DOCUMENTS):
            warc.add_resource(f"http://d.example/{number}", "text/plain", _body(number))
        warc.commit()
    return path


def _parquet(work: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = work / "files"
    folder.mkdir()
    rows = [
        {"url": f"http://d.example/{number}", "text": _body(number).decode()}
        for number in range(DOCUMENTS)
    ]
    path = folder / "d.parquet"
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, path, row_group_size=10, compression="zstd", write_page_checksum=True)
    return path


def _read_archive(path: Path) -> tuple[Documents, int]:
    found, losses = {}, 0
    for item in read_archive(path):
        if isinstance(item, Damaged):
            losses += 1
        else:
            found[item.url] = item.body
    return found, losses


def _read_warc(path: Path) -> tuple[Documents, int]:
    return _sorted(WarcConfig(files=(str(path),)).documents(FetchConfig(), path.parent))


def _read_files(path: Path) -> tuple[Documents, int]:
    return _sorted(FilesConfig(folder=str(path.parent)).documents(FetchConfig(), path.parent))


def _sorted(documents: Iterator[Found]) -> tuple[Documents, int]:
    found, losses = {}, 0
    for item in documents:
        if item.decision == "kept" and item.body:
            found[item.url] = item.body
        else:
            losses += 1
    return found, losses


def _disk_full(work: Path, limits_kb: tuple[int, ...]) -> Iterator[tuple[str, bool]]:
    """Gather and clean where a file or the disk ends: one plain line, exit 1, no finished folder;
    with room again the same call goes on and ends with the digest of an unbroken run."""
    work.mkdir()
    with serve() as site:
        paths = [f"/p{number}" for number in range(PAGES)]
        site.routes["/"] = "".join(f"<a href={path}>x</a>" for path in paths)
        site.routes |= {
            path: f"<html><body><p>{article(n)}</p>" for n, path in enumerate(paths)
        }
        config = work / "config.toml"
        (_, mapped), = site.connect.items()
        config.write_text(
            f'[gather.web]\nseeds = ["http://{HOST}/"]\nconnect = {{"{HOST}:80" = "{mapped}"}}\n'
        )
        whole = work / "whole"
        wanted = [_run(stage, config, whole, 0)[1] for stage in FOLDERS]
        for (stage, folder), digest in zip(FOLDERS.items(), wanted, strict=True):
            for kilobytes in limits_kb:
                run_dir = work / f"{stage}-{kilobytes}"
                if stage == "clean":
                    _run("gather", config, run_dir, 0)
                code, said = _run(stage, config, run_dir, kilobytes)
                plain = code == 1 and "Traceback" not in said and "commonroot: " in said
                clean = not (run_dir / folder).exists()
                again = _run(stage, config, run_dir, 0)
                yield f"{stage}, files of {kilobytes} KB", (
                    (code == 0 or (plain and clean)) and again == (0, digest)
                )
        yield from _small_disk(work, config, wanted[0])


def _small_disk(work: Path, config: Path, digest: str) -> Iterator[tuple[str, bool]]:
    """The same on a real disk without room, where we may mount one."""
    for kilobytes in (64, 200):
        disk = work / f"disk-{kilobytes}"
        disk.mkdir()
        size = f"size={kilobytes}k"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "none", str(disk)], capture_output=True
        )
        if mounted.returncode:
            return
        try:
            code, said = _run("gather", config, disk / "run", 0)
            plain = code == 1 and "Traceback" not in said and "commonroot: " in said
            clean = not (disk / "run" / "1-web").exists()
            subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
            again = _run("gather", config, disk / "run", 0)
            yield f"gather, disk of {kilobytes} KB", plain and clean and again == (0, digest)
        finally:
            subprocess.run(["umount", str(disk)], check=True)


def _run(stage: str, config: Path, run_dir: Path, kilobytes: int) -> tuple[int, str]:
    """(exit code, digest or what was said)."""

    def limit() -> None:
        if kilobytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024,) * 2)

    command = ["commonroot", stage, "--config", str(config), "--run", str(run_dir), "--json"]
    # -B: under the limit Python would leave half a .pyc of whatever it compiles first.
    done = subprocess.run(
        [sys.executable, "-B", "-m", *command], capture_output=True, text=True, preexec_fn=limit,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    if done.returncode:
        print(done.stderr[-300:], file=sys.stderr)
        return done.returncode, done.stderr
    folder = run_dir / FOLDERS[stage] / "manifest.json"
    return 0, str(json.loads(folder.read_text("utf-8"))["digest"])
