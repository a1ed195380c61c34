"""From any place of the corpus back to where it came from: URL, archive record, decisions."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from commonroot.artifact import load_artifact, text_sha256
from commonroot.errors import ArtifactError, UsageError
from ingest.archive import Stored, read_record
from ingest.gather import ARCHIVE, FOLDER
from pretrain.corpus import corpus_rows

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
    one end-of-text token. Raises ArtifactError if an artifact is not there, UsageError if nothing
    is found.
    """
    corpus = load_artifact(run_dir / "2-corpus", "corpus")
    archive = run_dir / FOLDER / ARCHIVE
    if not archive.is_file():
        raise ArtifactError(f"no {archive}: run `commonroot gather` again")
    documents = list(corpus_rows(corpus, split))
    if not documents:
        raise UsageError(f"the corpus has no split {split}: train or heldout")
    starts = _token_starts(run_dir, [document["text"] for document in documents], tokens)
    found = 0
    for number, document in enumerate(documents):
        span = starts[number : number + 2] if starts else None
        inside = not (tokens and span) or (span[0] < tokens[1] and tokens[0] < span[1])
        if inside and url in ("", document["url"]) and words in document["text"]:
            found += 1
            yield _row(document, archive, {"split": split, "document": number, "tokens": span})
    if not found:
        end = f" (it has {starts[-1]:,} tokens)" if starts else ""
        raise UsageError(f"nothing of split {split} is there{end}")


def parse_range(text: str) -> tuple[int, int]:
    """`first:last` as two numbers. Raises UsageError for anything else."""
    first, colon, last = text.partition(":")
    if not (colon and first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise UsageError(f"--tokens {text}: write it as first:last, such as 1000:2000")
    return int(first), int(last)


def _token_starts(
    run_dir: Path, texts: list[str], wanted: tuple[int, int] | None
) -> list[int] | None:
    """Where each text starts, and where the last one ends; None without a base model."""
    if not (run_dir / "3-base" / "manifest.json").is_file():
        if wanted:
            raise ArtifactError("tokens are those of the base model: run `commonroot pretrain`")
        return None
    from pretrain.model import load_tokenizer
    from pretrain.packing import encode

    tokenizer = load_tokenizer(load_artifact(run_dir / "3-base", "base").path)
    starts = [0]
    for document in encode(tokenizer, texts):
        starts.append(starts[-1] + 1 + len(document.ids))
    return starts


def _row(document: dict[str, Any], archive: Path, place: dict[str, Any]) -> dict[str, Any]:
    record = read_record(archive, document["warc_offset"])
    return {
        **place,
        "url": document["url"],
        "fetched_at": document["fetched_at"],
        "licence": document["licence"],
        "language": document["language"],
        "decisions": json.loads(document["decisions"]),
        "sha256": document["sha256"],
        "sha256_holds": text_sha256(document["text"]) == document["sha256"],
        "record": _record(record, document),
    }


def _record(record: Stored | None, document: dict[str, Any]) -> dict[str, Any]:
    """The archive's own record; `found` says whether it is that of the document."""
    place = {"file": f"{FOLDER}/{ARCHIVE}", "offset": document["warc_offset"]}
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
