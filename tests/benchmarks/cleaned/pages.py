"""Real pages to clean: the HTML of documentation that Debian packages, as a web archive."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

from ingest import gather
from ingest.archive import Archive
from ingest.fetch import Response
from ingest.gather import GatherConfig
from ingest.sources.warc import WarcConfig

__all__ = ["Pages", "archive_of", "pages", "unpacked"]

PACKAGES = (
    "anarchism", "apache2-doc", "debian-handbook", "postgresql-doc-15", "python3.11-doc",
    "sqlite3-doc",
)
LARGEST, SEED = 2_000_000, 7
Pages = list[tuple[str, bytes]]


def pages(work: Path, count: int) -> Pages:
    """(Address, HTML) of `count` pages, the same each time. Needs apt-get and dpkg-deb."""
    folder = work / "packages"
    for package in PACKAGES:
        unpacked(package, folder)
    files = [path for path in sorted(folder.rglob("*.html")) if path.is_file()]
    files = [path for path in files if path.stat().st_size < LARGEST]
    random.Random(SEED).shuffle(files)
    if len(files) < count:
        raise SystemExit(f"only {len(files)} pages in {folder}: --pages {len(files)}")
    chosen = sorted(files[:count])
    return [(_address(path.relative_to(folder)), path.read_bytes()) for path in chosen]


def archive_of(found: Pages, work: Path) -> Path:
    """A run folder whose 1-web holds the pages; also the same as JSON Lines, `pages.jsonl`."""
    run = work / "run"
    shutil.rmtree(run, ignore_errors=True)
    with Archive(work / "pages.warc.gz", 0) as archive:
        for url, body in found:
            head = (("Content-Type", "text/html"),)
            archive.add(
                Response(url, 200, "OK", head, body, "192.0.2.1", "2026-11-28T00:00:00Z", ())
            )
    gather.run(GatherConfig(warc=WarcConfig(files=(str(work / "pages.warc.gz"),))), run)
    with open(work / "pages.jsonl", "w", encoding="utf-8") as file:
        for url, body in found:
            page = body.decode("utf-8", "replace")
            file.write(json.dumps({"id": url, "text": page}) + "\n")
    return run


def unpacked(package: str, folder: Path) -> Path:
    """Debian's package in a folder of its own there; fetched if it is not."""
    if (folder / package).exists():
        return folder / package
    packed = folder / ".packed"
    packed.mkdir(parents=True, exist_ok=True)
    try:
        fetch = ["apt-get", "-q", "download", package]
        subprocess.run(fetch, cwd=packed, check=True, stdout=sys.stderr)
        (file,) = packed.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", file, folder / package], check=True)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder / package, ignore_errors=True)
        raise SystemExit(f"{package} cannot be had from Debian's archive: {error}") from None
    return folder / package


def _address(path: Path) -> str:
    host, *rest = path.parts
    return f"http://{host}.example/{'/'.join(rest)}"
