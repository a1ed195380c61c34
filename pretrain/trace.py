"""From any place of the corpus back to where it came from: URL, archive record, decisions."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from commonroot.artifact import Artifact, load_artifact, text_sha256
from commonroot.errors import ArtifactError, UsageError
from ingest.archive import Stored, read_record
from ingest.gather import ARCHIVE, FOLDER
from pretrain.mixture import open_mixture, reopen_mixture
from pretrain.portion import Portion

__all__ = ["parse_range", "trace"]


def trace(
    run_dir: Path,
    tokens: tuple[int, int] | None = None,
    url: str = "",
    words: str = "",
    split: str = "train",
) -> Iterator[dict[str, Any]]:
    """A row for each document of `split` that has tokens in [first, last), this address or these
    words; with none of the three, for every document.

    Tokens are counted as pretraining lays documents out before it shuffles blocks: each is led by
    one end-of-text token, and the parts of a mixture follow each other by their names. Raises
    ArtifactError if an artifact is not there, UsageError if nothing is found.
    """
    corpus = load_artifact(run_dir / "2-corpus", "corpus")
    archive = run_dir / FOLDER / ARCHIVE
    if not archive.is_file():
        raise ArtifactError(f"no {archive}: run `commonroot gather` again")
    base = _base(run_dir)
    if tokens and not base:
        raise ArtifactError("tokens are those of the base model: run `commonroot pretrain`")
    portions = reopen_mixture(base, corpus) if base else open_mixture({}, corpus)
    total, seen, found = 0, 0, 0
    for portion in portions:
        documents = list(portion.rows(split))
        seen += len(documents)
        starts = _token_starts(base, [document["text"] for document in documents], total)
        for number, document in enumerate(documents):
            span = starts[number : number + 2] if starts else None
            inside = not (tokens and span) or (span[0] < tokens[1] and tokens[0] < span[1])
            if inside and url in ("", document["url"]) and words in document["text"]:
                found += 1
                place = {"split": split, "document": number, "tokens": span}
                yield _row(document, portion, run_dir, place)
        total = starts[-1] if starts else 0
    if not seen:
        raise UsageError(f"the corpus has no split {split}: train or heldout")
    if not found:
        end = f" (it has {total:,} tokens)" if base else ""
        raise UsageError(f"nothing of split {split} is there{end}")


def parse_range(text: str) -> tuple[int, int]:
    """`first:last` as two numbers. Raises UsageError for anything else."""
    first, colon, last = text.partition(":")
    if not (colon and first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise UsageError(f"--tokens {text}: write it as first:last, such as 1000:2000")
    return int(first), int(last)


def _base(run_dir: Path) -> Artifact | None:
    path = run_dir / "3-base"
    return load_artifact(path, "base") if (path / "manifest.json").is_file() else None


def _token_starts(base: Artifact | None, texts: list[str], first: int) -> list[int] | None:
    """Where each text starts, from `first` on, and where the last one ends; None without a base."""
    if base is None:
        return None
    from pretrain.model import load_tokenizer
    from pretrain.packing import encode

    starts = [first]
    for document in encode(load_tokenizer(base.path), texts):
        starts.append(starts[-1] + 1 + len(document.ids))
    return starts


def _row(
    document: dict[str, Any], portion: Portion, run_dir: Path, place: dict[str, Any]
) -> dict[str, Any]:
    linked = portion.corpus.path.parent != run_dir
    # Behind the link to another run's corpus, ".." is that run's folder.
    archive = (portion.corpus.path / ".." if linked else run_dir) / FOLDER / ARCHIVE
    record = read_record(archive, document["warc_offset"])
    return {
        **place,
        "corpus": portion.name,
        "url": document["url"],
        "fetched_at": document["fetched_at"],
        "licence": document["licence"],
        "language": document["language"],
        "decisions": json.loads(document["decisions"]),
        "sha256": document["sha256"],
        "sha256_holds": text_sha256(document["text"]) == document["sha256"],
        "record": _record(record, document, str(archive.relative_to(run_dir))),
    }


def _record(record: Stored | None, document: dict[str, Any], file: str) -> dict[str, Any]:
    """The archive's own record; `found` says whether it is that of the document."""
    place = {"file": file, "offset": document["warc_offset"]}
    if record is None or record.url != document["url"]:
        return {**place, "found": False}
    headers = [list(pair) for pair in record.headers]
    return {
        **place,
        "found": True,
        "status": record.status,
        "bytes": len(record.body),
        "headers": headers,
    }
