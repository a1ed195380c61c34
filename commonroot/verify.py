"""Recheck every hash of a run or of a release, back to the URLs.

Hashes find damage and mix-ups, not forgery: who can rewrite a whole folder can rewrite its hashes
as well. The digest in the last line is what to compare with the publisher's.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from commonroot.artifact import (
    MANIFEST,
    RUN_NOTES,
    Artifact,
    canonical_json,
    file_sha256,
    manifest_digest,
    text_sha256,
)
from commonroot.errors import ArtifactError

__all__ = ["CARD", "LINEAGE", "SOURCES", "WITHHELD", "source_lines", "verify"]

CARD, LINEAGE, SOURCES = "README.md", "lineage.json", "sources.jsonl"
WITHHELD = "withheld"
"""Key of a lineage record that lists what is left out of it, so that its digest cannot follow."""
DAMAGED = (KeyError, TypeError, AttributeError, ValueError)


def verify(path: Path) -> list[str]:
    """Check a run folder, or one artifact that may lie anywhere; returns lines to print.

    Raises ArtifactError naming the first file that is missing, added, changed or does not fit.
    """
    if (path / MANIFEST).is_file():
        artifact = _sealed(path, strict=False)
        lines = [_whole(artifact)]
        if artifact.kind == "release":
            lines += _check_release(artifact)
        else:
            lines.append("its parents are not looked at: give the run's folder")
        return [*lines, f"verified: digest {artifact.digest}"]
    folders = [p for p in sorted(path.glob("[0-9]-*")) if p.is_dir() and not p.suffix]
    if not folders:
        raise ArtifactError(f"{path} holds no {MANIFEST} and no stage: give a run or a release")
    return _verify_run(folders)


def source_lines(corpus: Path) -> str:
    """One JSON line for every document of a corpus folder: url, sha256 of its text, licence, split.

    Sorted, and without the date of fetching, so that equal corpora give equal lines.
    """
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = []
    for shard in sorted((corpus / "data").glob("*.parquet")):
        split = shard.name.partition("-")[0]
        table = pq.read_table(shard, columns=["url", "sha256", "licence"])
        rows += [{**row, "split": split} for row in table.to_pylist()]
    rows.sort(key=lambda row: (row["url"], row["sha256"]))
    return "".join(canonical_json(row) + "\n" for row in rows)


def _verify_run(folders: list[Path]) -> list[str]:
    artifacts: dict[str, Artifact] = {}
    lines = []
    for folder in folders:
        artifact = _sealed(folder, strict=True)
        artifacts[artifact.kind] = artifact
        lines.append(_whole(artifact))
    for artifact in artifacts.values():
        digests = {kind: other.digest for kind, other in artifacts.items()}
        _check_parents(artifact.path / MANIFEST, artifact.manifest["parents"], digests)
    if "release" in artifacts:
        lines += _check_release(artifacts["release"])
        lines += _check_sources(artifacts["release"], artifacts["corpus"])
    last = list(artifacts.values())[-1]
    return [*lines, f"verified: {len(artifacts)} artifacts, digest {last.digest}"]


def _sealed(path: Path, strict: bool) -> Artifact:
    """An artifact of any kind, every byte checked, those of the manifest too.

    Not `strict`: hidden files, which hubs and file managers add to a copy, are not looked at.
    """
    file = path / MANIFEST
    try:
        text = file.read_text("utf-8")
        manifest = json.loads(text)
        # The digest does not cover spacing, so the text itself must be what was sealed.
        sound = text == json.dumps(manifest, indent=1, sort_keys=True)
        sound = sound and manifest_digest(manifest) == manifest["digest"]
        entries = [
            (path / n, str(e["sha256"]), int(e["bytes"])) for n, e in manifest["files"].items()
        ]
    except OSError:
        raise ArtifactError(f"{file} is missing: {path} is no finished artifact") from None
    except DAMAGED:
        sound, entries = False, []
    if not sound:
        raise ArtifactError(f"{file} was changed after it was written")
    for name, sha256, size in entries:
        _check_file(name, sha256, size, file)
    for added in sorted({*_files(path, strict)} - {name for name, _, _ in entries}):
        raise ArtifactError(f"{added} was added after {path} was sealed")
    return Artifact(path, manifest)


def _check_file(name: Path, sha256: str, size: int, manifest: Path) -> None:
    if not name.is_file():
        raise ArtifactError(f"{name} is gone since it was sealed")
    if file_sha256(name) != sha256:
        raise ArtifactError(f"{name} was changed after it was sealed")
    if name.stat().st_size != size:
        raise ArtifactError(f"{manifest} was changed: it gives {name} another size")


def _files(path: Path, hidden: bool) -> Iterator[Path]:
    for file in path.rglob("*"):
        name = file.relative_to(path)
        if not file.is_file() or name.as_posix() in (MANIFEST, RUN_NOTES):
            continue
        if hidden or not any(part.startswith(".") for part in name.parts):
            yield file


def _check_parents(file: Path, parents: Mapping[str, str], digests: Mapping[str, str]) -> None:
    for kind, digest in parents.items():
        if kind not in digests:
            raise ArtifactError(f"{file}: its parent of kind {kind!r} is not there")
        if digests[kind] != digest:
            raise ArtifactError(
                f"{file}: it was made from {kind} {digest[:12]}, but there is "
                f"{kind} {digests[kind][:12]}: run its stage again"
            )


def _check_release(release: Artifact) -> list[str]:
    try:
        lineage = json.loads((release.path / LINEAGE).read_text("utf-8"))
        ancestors = {entry["kind"]: entry for entry in lineage["ancestors"]}
        return [
            _check_chain(release, ancestors),
            _check_copies(release, ancestors, lineage["copied"]),
            _check_list(release, ancestors["corpus"], lineage["sources"]),
        ]
    except (OSError, *DAMAGED):
        raise ArtifactError(f"{release.path / LINEAGE} is no lineage of a release") from None


def _check_chain(release: Artifact, ancestors: Mapping[str, Mapping[str, Any]]) -> str:
    """Recompute each ancestor's digest from its record and follow the links between them."""
    file = release.path / LINEAGE
    digests = {kind: str(entry["digest"]) for kind, entry in ancestors.items()}
    _check_parents(file, release.manifest["parents"], digests)
    card = (release.path / CARD).read_text("utf-8")
    recomputed = []
    for kind, entry in ancestors.items():
        if not entry[WITHHELD]:
            record = {k: v for k, v in entry.items() if k != WITHHELD}
            record["files"] = {name: {"sha256": s} for name, s in entry["files"].items()}
            if manifest_digest(record) != digests[kind]:
                raise ArtifactError(f"{file}: the digest of {kind} does not follow from its record")
            recomputed.append(kind)
        _check_parents(file, entry.get("parents", {}), digests)
        if f"`{digests[kind]}`" not in card:
            raise ArtifactError(f"{release.path / CARD} does not name {kind} {digests[kind][:12]}")
    linked = [kind for kind in ancestors if kind not in recomputed]
    return f"lineage: digests of {', '.join(recomputed)} recomputed from their records" + (
        f"; {', '.join(linked)} linked by digest only (records withheld)" if linked else ""
    )


def _check_copies(
    release: Artifact, ancestors: Mapping[str, Mapping[str, Any]], copied: Mapping[str, str]
) -> str:
    for name, kind in copied.items():
        sealed = ancestors[kind]["files"][name]
        if release.manifest["files"][name]["sha256"] != sealed:
            raise ArtifactError(f"{release.path / name} is not the file that {kind} holds")
    origins = " and ".join(sorted(set(copied.values())))
    return f"model: {len(copied)} files are byte for byte those of {origins}"


def _check_list(release: Artifact, corpus: Mapping[str, Any], sources: Mapping[str, Any]) -> str:
    file = release.path / SOURCES
    if file_sha256(file) != sources["sha256"]:
        raise ArtifactError(f"{file} is not the list that {LINEAGE} names")
    count = file.read_bytes().count(b"\n")
    if count != sources["documents"] or count != corpus.get("metrics", {}).get("kept", count):
        raise ArtifactError(f"{file} lists {count} documents, the corpus another number")
    sealed = corpus.get("metrics", {}).get("sources_sha256")
    if sealed is not None and sealed != sources["sha256"]:
        raise ArtifactError(f"{file} is not the list that the corpus was sealed with")
    bound = "sealed with the corpus" if sealed else "as the lineage names it"
    return f"sources: {count} public documents by URL and sha256, {bound}"


def _check_sources(release: Artifact, corpus: Artifact) -> list[str]:
    """With the corpus at hand the list is made again."""
    if text_sha256(source_lines(corpus.path)) != file_sha256(release.path / SOURCES):
        raise ArtifactError(f"{release.path / SOURCES} is not the list of {corpus.path}")
    return [f"sources: the same documents as in {corpus.path}"]


def _whole(artifact: Artifact) -> str:
    parents = ", ".join(sorted(artifact.manifest["parents"])) or "nothing"
    files = len(artifact.manifest["files"])
    return (
        f"{artifact.path}: {artifact.kind} {artifact.digest[:12]}, {files} files whole, "
        f"made from {parents}"
    )
