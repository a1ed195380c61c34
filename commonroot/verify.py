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

__all__ = [
    "CARD",
    "LINEAGE",
    "LINKS",
    "MIXED",
    "SOURCES",
    "WITHHELD",
    "source_lines",
    "sources_of",
    "verify",
]

CARD, LINEAGE, SOURCES = "README.md", "lineage.json", "sources.jsonl"
LINKS = "corpora"
"""Folder of a run with a link to each corpus of other runs that its base was trained on."""
MIXED = "mixture."
"""Lead of a base's inputs that are digests of the corpora that it was trained on."""
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


def sources_of(name: str) -> str:
    """Name of a release's list of the documents of a mixed-in corpus."""
    return f"sources-{name}.jsonl"


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
    mixed = _mixed_in(artifacts["base"]) if "base" in artifacts else {}
    for place, digest in mixed.items():
        lines += _check_mixed_in(artifacts["base"], place, digest)
    if "release" in artifacts:
        lines += _check_release(artifacts["release"])
        lists = {artifacts["corpus"].path: SOURCES} | {p: sources_of(p.name) for p in mixed}
        lines += _check_sources(artifacts["release"], lists)
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


def _mixed_in(base: Artifact) -> dict[Path, str]:
    """Where this run finds the corpora of others, each once, and their digests."""
    own = base.manifest["parents"].get("corpus")
    found: dict[str, Path] = {}
    for name, digest in sorted(base.manifest["inputs"].items()):
        if name.startswith(MIXED) and digest != own:
            found.setdefault(digest, base.path.parent / LINKS / name.removeprefix(MIXED))
    return {place: digest for digest, place in found.items()}


def _check_mixed_in(base: Artifact, place: Path, digest: str) -> list[str]:
    """A corpus of another run, and the archive that it was made from if that lies beside it."""
    if not (place / MANIFEST).is_file():
        raise ArtifactError(
            f"{place} leads nowhere: make it a link to the corpus {digest[:12]} that {base.path} "
            "was trained on"
        )
    corpus = _sealed(place, strict=True)
    if corpus.digest != digest:
        raise ArtifactError(
            f"{base.path / MANIFEST}: it was made from corpus {digest[:12]}, but {place} is corpus "
            f"{corpus.digest[:12]}: run its stage again"
        )
    web = place / ".." / "1-web"  # of the run that the link leads to
    if not (web / MANIFEST).is_file():
        return [_whole(corpus), f"{place}: its archive is not beside it, and is not looked at"]
    archive = _sealed(web, strict=True)
    _check_parents(place / MANIFEST, corpus.manifest["parents"], {"web": archive.digest})
    return [_whole(corpus), _whole(archive)]


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
            *_check_mixture(release, ancestors, lineage.get("mixture", {})),
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
            if _digest_of(entry) != digests[kind]:
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


def _check_mixture(
    release: Artifact, ancestors: Mapping[str, Mapping[str, Any]], mixture: Mapping[str, Any]
) -> list[str]:
    """Corpora of other runs: each record, the base that it is an input of, its documents."""
    file, lines = release.path / LINEAGE, []
    inputs = {k: d for k, d in ancestors["base"]["inputs"].items() if k.startswith(MIXED)}
    for name, other in mixture.items():
        record = other["record"]
        if not record[WITHHELD] and _digest_of(record) != record["digest"]:
            raise ArtifactError(f"{file}: the digest of {name} does not follow from its record")
        if inputs[MIXED + name] != record["digest"]:
            raise ArtifactError(f"{file}: the base was not made from this corpus {name}")
        lines.append(f"{name}: {_check_list(release, record, other['sources'])}")
    known = {ancestors["corpus"]["digest"], *(o["record"]["digest"] for o in mixture.values())}
    for name, digest in inputs.items():
        if digest not in known:
            raise ArtifactError(f"{file} lacks the corpus {name.removeprefix(MIXED)}")
    return lines


def _digest_of(entry: Mapping[str, Any]) -> str:
    """The digest that follows from a record of the lineage."""
    record = {k: v for k, v in entry.items() if k != WITHHELD}
    record["files"] = {name: {"sha256": s} for name, s in entry["files"].items()}
    return manifest_digest(record)


def _check_list(release: Artifact, corpus: Mapping[str, Any], sources: Mapping[str, Any]) -> str:
    file = release.path / sources["file"]
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


def _check_sources(release: Artifact, lists: Mapping[Path, str]) -> list[str]:
    """With the corpora at hand the lists are made again."""
    for corpus, name in lists.items():
        if text_sha256(source_lines(corpus)) != file_sha256(release.path / name):
            raise ArtifactError(f"{release.path / name} is not the list of {corpus}")
    return [f"sources: the same documents as in {corpus}" for corpus in lists]


def _whole(artifact: Artifact) -> str:
    parents = ", ".join(sorted(artifact.manifest["parents"])) or "nothing"
    files = len(artifact.manifest["files"])
    return (
        f"{artifact.path}: {artifact.kind} {artifact.digest[:12]}, {files} files whole, "
        f"made from {parents}"
    )
