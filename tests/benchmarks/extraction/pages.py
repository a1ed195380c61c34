"""The benchmark's pages and their truth."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

from ingest.decode import decode

__all__ = ["Sample", "read"]


@dataclass(frozen=True)
class Sample:
    """One page: its bytes, its true main text, its address."""

    html: bytes
    truth: str
    url: str

    @property
    def source(self) -> str:
        """The page's characters: what extractors that take no bytes are given."""
        return decode(self.html)


def read(folder: Path) -> list[Sample]:
    """`ground-truth.json` and `html/<id>.html.gz` of a folder, in the order of ids."""
    file = folder / "ground-truth.json"
    if not file.is_file():
        raise SystemExit(f"{file} is missing: --data names the folder of the benchmark's pages")
    truth = json.loads(file.read_text("utf-8"))
    return [
        Sample(
            gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()),
            truth[name].get("articleBody", ""), truth[name].get("url", ""),
        )
        for name in sorted(truth)
    ]
