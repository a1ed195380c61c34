"""Several corpora, and which share of the training tokens each of them gives.

A corpus is that of this run, or of another run's folder; a part of the mixture is a corpus or some
of its sources. No document belongs to two parts, and none that is held out anywhere is trained on.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from commonroot.artifact import Artifact, load_artifact
from commonroot.config import Section
from commonroot.errors import ArtifactError, ConfigError
from commonroot.verify import LINKS, MIXED
from pretrain.corpus import corpus_rows
from pretrain.portion import Portion, sha256_of

__all__ = ["Mixture", "Part", "inputs_of", "link", "open_mixture", "reopen_mixture"]

CORPUS = "2-corpus"
ALONE = "corpus"
"""Name of the only part where there is no mixture."""


class Part(Section):
    """A corpus, or some of its sources."""

    corpus: str = Field("", exclude=True)
    """Folder of another run, or of its 2-corpus; empty: this run's own corpus. Its digest is kept,
    the path is not."""
    weight: float = Field(1.0, gt=0)
    """Share of the training tokens, in proportion to the other parts' weights."""
    sources: tuple[str, ...] = ()
    """Only documents from these sources (a row's `source`, or the host of its address); empty: all
    that no other part of the same corpus takes."""


def _told_apart(parts: dict[str, Part]) -> dict[str, Part]:
    if parts and all(part.corpus for part in parts.values()):
        raise ValueError(
            "one part has to be this run's own corpus: leave its `corpus` out, and give --run the "
            "folder of one of them"
        )
    problem = _overlap(parts, {name: str(_folder(part)) for name, part in parts.items()})
    if problem:
        raise ValueError(problem)
    return parts


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
Mixture = Annotated[dict[Name, Part], AfterValidator(_told_apart)]
"""[pretrain.mixture.NAME]"""


def open_mixture(parts: Mapping[str, Part], own: Artifact) -> list[Portion]:
    """The parts by their names; without any, all of `own`, the run's corpus.

    Raises ArtifactError for a corpus that is missing or damaged, ConfigError for parts that share
    documents.
    """
    found = {name: _elsewhere(name, part) or own for name, part in parts.items()}
    return _portions(parts, found) if parts else [Portion(ALONE, own, 1.0)]


def reopen_mixture(base: Artifact, own: Artifact) -> list[Portion]:
    """What `base` was trained on, corpora of other runs through the links beside `own`.

    Raises ArtifactError if one of them is not there or has become another.
    """
    settings = base.config.get("mixture", {})
    parts = {name: Part.model_validate(part) for name, part in settings.items()}
    found = {name: _linked(name, base.manifest["inputs"], own) for name in parts}
    return _portions(parts, found) if parts else [Portion(ALONE, own, 1.0)]


def inputs_of(portions: list[Portion]) -> dict[str, str]:
    """Digests of all parts' corpora, for a manifest's inputs."""
    return {MIXED + portion.name: portion.corpus.digest for portion in portions}


def link(portions: list[Portion], run_dir: Path) -> None:
    """Leave a link to every other run's corpus in `run_dir`/corpora, by its part's name.

    A copy that stands there in place of a link stays. Raises ArtifactError if it is of another
    corpus.
    """
    for portion in portions:
        place = run_dir / LINKS / portion.name
        if portion.corpus.path == run_dir / CORPUS:
            continue
        if place.is_dir() and not place.is_symlink():
            if load_artifact(place, "corpus").digest != portion.corpus.digest:
                raise ArtifactError(f"{place} holds another corpus than {portion.name}: remove it")
            continue
        place.parent.mkdir(exist_ok=True)
        beside = place.with_name(f".{place.name}.writing")
        beside.unlink(missing_ok=True)
        beside.symlink_to(portion.corpus.path.resolve(), target_is_directory=True)
        os.replace(beside, place)


def _portions(parts: Mapping[str, Part], corpora: Mapping[str, Artifact]) -> list[Portion]:
    digests = {name: corpus.digest for name, corpus in corpora.items()}
    problem = _overlap(parts, digests)
    if problem:
        raise ConfigError(f"pretrain.mixture: {problem}")
    total = sum(part.weight for part in parts.values())
    portions = []
    for name, part in sorted(parts.items()):  # as a manifest keeps them
        beside = [other for other in parts if other != name and digests[other] == digests[name]]
        taken = {source for other in beside for source in parts[other].sources}
        portions.append(Portion(
            name, corpora[name], part.weight / total, frozenset(part.sources),
            frozenset() if part.sources else frozenset(taken),
        ))  # fmt: skip
    withheld = frozenset(
        sha256_of(row)
        for corpus in {one.digest: one for one in corpora.values()}.values()
        for row in corpus_rows(corpus, "heldout", ["sha256", "text"])
    )
    return [replace(portion, withheld=withheld) for portion in portions]


def _overlap(parts: Mapping[str, Part], places: Mapping[str, str]) -> str:
    """What two parts of one corpus share, or ""."""
    takers: dict[tuple[str, str], str] = {}
    for name, part in parts.items():
        for source in part.sources or ("",):
            other = takers.setdefault((places[name], source), name)
            if other != name:
                what = f"both take {source}" if source else "are the same corpus without `sources`"
                return f"{other} and {name} {what}"
    return ""


def _folder(part: Part) -> Path:
    path = Path(part.corpus).expanduser()
    return path if path.name == CORPUS or not part.corpus else path / CORPUS


def _elsewhere(name: str, part: Part) -> Artifact | None:
    if not part.corpus:
        return None
    try:
        return load_artifact(_folder(part), "corpus")
    except ArtifactError as error:
        raise ArtifactError(f"pretrain.mixture.{name}: {error}") from None


def _linked(name: str, inputs: Mapping[str, str], own: Artifact) -> Artifact:
    digest = inputs[MIXED + name]
    if digest == own.digest:
        return own
    place = own.path.parent / LINKS / name
    if not place.exists():
        raise ArtifactError(
            f"{place} leads nowhere: make it a link to the 2-corpus that {name} was trained on"
        )
    found = load_artifact(place, "corpus")
    if found.digest != digest:
        raise ArtifactError(
            f"{place}: the base was trained on corpus {digest[:12]}, but there is "
            f"{found.digest[:12]}: run `commonroot pretrain` again"
        )
    return found
