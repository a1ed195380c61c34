"""A stage's output folder: manifest, hashes, lock, atomic replace, lineage check.

A stage writes into `<dir>.partial`; `manifest.json` is written last and the folder then takes
the place of the old one. Two digests are kept apart on purpose: a file's sha256 finds damage, and
the artifact's content digest leaves out what differs between equal runs (dates, offsets), so that
equal inputs give equal digests and a stage whose inputs did not change has nothing to do.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commonroot import __version__
from commonroot.config import Section
from commonroot.errors import ArtifactError, BusyError, DataError

__all__ = [
    "Artifact",
    "Workspace",
    "build_artifact",
    "canonical_json",
    "file_sha256",
    "json_lines",
    "load_artifact",
    "manifest_digest",
    "text_sha256",
    "tree_sha256",
    "write_atomic",
]

MANIFEST = "manifest.json"
RUN_NOTES = "run.json"


@dataclass(frozen=True)
class Artifact:
    """A sealed stage output."""

    path: Path
    manifest: Mapping[str, Any]
    fresh: bool = False
    """True if this call did work, False if it found everything up to date."""

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def digest(self) -> str:
        return str(self.manifest["digest"])

    @property
    def metrics(self) -> dict[str, Any]:
        return dict(self.manifest["metrics"])

    @property
    def notes(self) -> dict[str, Any]:
        """What varied from run to run; empty if the unhashed file is gone."""
        try:
            return dict(json.loads((self.path / RUN_NOTES).read_text("utf-8")))
        except (OSError, ValueError):
            return {}

    @property
    def config(self) -> dict[str, Any]:
        return dict(self.manifest["config"])


class Workspace:
    """The `.partial` folder of one stage; it survives a kill and is resumed by an equal call."""

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key
        self.resumed = False
        self._contents: dict[str, str] = {}
        self._scratch: list[Path] = []
        self._notes: dict[str, Any] = {}

    def open(self) -> None:
        """Keep what an interrupted equal run left; wipe what another config left."""
        marker = self.path / ".key"
        if marker.is_file() and marker.read_text() == self.key:
            self.resumed = True
            return
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        write_atomic(marker, self.key)

    def volatile(self, name: str, content: str) -> None:
        """Let `content` (a sha256) stand for file `name` in the artifact's content digest."""
        self._contents[name] = content

    def scratch(self, name: str) -> Path:
        """A path inside the folder that is deleted before the artifact is sealed."""
        path = self.path / name
        self._scratch.append(path)
        return path

    def note(self, key: str, value: Any) -> None:
        """Record what varies from run to run (seconds, dates, host) in the unhashed run.json."""
        self._notes[key] = value

    def seal(self, identity: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
        """Drop scratch, hash every file and write the manifest last."""
        cut_short = self.path.rglob(".*.writing")
        # The key first: a kill in the middle of this must not leave a folder that looks resumable.
        for path in (self.path / ".key", *self._scratch, *cut_short, self.path / MANIFEST):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        write_atomic(self.path / RUN_NOTES, json.dumps(self._notes, indent=1, default=str))
        manifest = {**identity, "metrics": metrics, "files": _describe(self.path, self._contents)}
        manifest["digest"] = manifest_digest(manifest)
        write_atomic(self.path / MANIFEST, _render(manifest))
        return manifest


def build_artifact(
    target: Path,
    kind: str,
    parents: Sequence[Artifact],
    section: Section,
    make: Callable[[Workspace], dict[str, Any]],
    inputs: Mapping[str, str] | None = None,
) -> Artifact:
    """Return the sealed artifact at `target`, calling `make` only if its inputs changed.

    `make` writes files into the workspace and returns JSON metrics that depend on nothing but
    the inputs. `inputs` are digests of what the config only points at (a user's own files), so
    that a change there is seen. Raises BusyError if another process builds the same target.
    """
    identity = {
        "format": 1,
        "kind": kind,
        "code": __version__,
        "config": section.model_dump(mode="json"),
        "parents": {parent.kind: parent.digest for parent in parents},
        "inputs": dict(inputs or {}),
    }
    with _locked(target):
        _finish_interrupted_swap(target)
        manifest = _read_manifest(target) if target.is_dir() else None
        if manifest and all(manifest.get(name) == identity[name] for name in identity):
            return load_artifact(target, kind)
        work = Workspace(target.with_name(target.name + ".partial"), text_sha256(identity))
        work.open()
        started = time.time()
        metrics = json.loads(json.dumps(make(work)))
        work.note("seconds", round(time.time() - started, 3))
        work.note("finished", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        sealed = work.seal(identity, metrics)
        _swap(work.path, target)
        return Artifact(target, sealed, fresh=True)


def load_artifact(path: Path, kind: str) -> Artifact:
    """Open an artifact after checking every byte of it.

    Raises ArtifactError naming the file that is missing, added or changed.
    """
    manifest = _read_manifest(path)
    if manifest is None:
        raise ArtifactError(f"{path} is missing or unfinished: run the stage that makes it first")
    if not _intact(manifest, path):
        raise ArtifactError(f"{path / MANIFEST} was changed after it was written: build it again")
    if manifest.get("kind") != kind:
        raise ArtifactError(f"{path} holds {manifest.get('kind')!r}, expected {kind!r}")
    for name, entry in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise ArtifactError(f"{file} is gone since it was sealed: delete {path}, build again")
        if file.stat().st_size != entry["bytes"] or file_sha256(file) != entry["sha256"]:
            raise ArtifactError(
                f"{file} was changed after it was sealed: delete {path}, build again"
            )
    for name in _files(path):
        if name not in manifest["files"]:
            raise ArtifactError(f"{path / name} was added after {path} was sealed: remove it")
    return Artifact(path, manifest)


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write beside, fsync, rename: a reader sees the old file or the new one, never a part."""
    beside = path.with_name(f".{path.name}.writing")
    with open(beside, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_sha256(path: Path) -> str:
    """Hex sha256 over the names and bytes of a file, or of every file below a folder."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    try:
        return text_sha256([[p.relative_to(path).as_posix(), file_sha256(p)] for p in files])
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from None


def text_sha256(value: Any) -> str:
    """Hex sha256 of a string, or of the canonical JSON of anything else."""
    text = value if isinstance(value, str) else canonical_json(value)
    return hashlib.sha256(text.encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def json_lines(text: str) -> Iterator[Any]:
    """The records of JSON Lines. Only a line feed ends one: JSON leaves U+2028 and such unescaped,
    at which `str.splitlines` would cut."""
    return (json.loads(line) for line in text.split("\n") if line.strip())


def _intact(manifest: Mapping[str, Any], path: Path) -> bool:
    try:
        whole = all(isinstance(e["sha256"], str) for e in manifest["files"].values())
        as_written = (path / MANIFEST).read_text("utf-8") == _render(manifest)
        return whole and as_written and manifest["digest"] == manifest_digest(manifest)
    except (AttributeError, KeyError, TypeError):
        return False


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """The content digest of a manifest, recomputed; volatile files count by their content."""
    stable = {key: value for key, value in manifest.items() if key != "digest"}
    stable["files"] = {
        name: entry.get("content", entry["sha256"]) for name, entry in manifest["files"].items()
    }
    return text_sha256(stable)


def _render(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=1, sort_keys=True)


def _describe(folder: Path, contents: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    described: dict[str, dict[str, Any]] = {}
    for name in _files(folder):
        path = folder / name
        described[name] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        if name in contents:
            described[name]["content"] = contents[name]
    return described


def _files(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in found)
    return sorted(name for name in names if name not in (MANIFEST, RUN_NOTES))


def _read_manifest(path: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise ArtifactError(f"{path / MANIFEST} is damaged: delete {path}, build again") from None
    if not isinstance(manifest, dict) or not {"kind", "files", "digest"} <= manifest.keys():
        raise ArtifactError(f"{path / MANIFEST} is damaged: delete {path}, build again")
    return manifest


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(f".{target.name}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another run works on {target}: wait for it, or use --run") from None
        yield


def _swap(partial: Path, target: Path) -> None:
    old = target.with_name(target.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.rename(target, old)
    os.rename(partial, target)
    shutil.rmtree(old, ignore_errors=True)


def _finish_interrupted_swap(target: Path) -> None:
    """A kill between the two renames leaves `.old` and a sealed `.partial`, but no target."""
    partial = target.with_name(target.name + ".partial")
    if not target.exists() and (partial / MANIFEST).is_file():
        os.rename(partial, target)
    if target.exists():
        shutil.rmtree(target.with_name(target.name + ".old"), ignore_errors=True)
