"""A text dataset: from the Hugging Face hub, or from a folder in one of its formats."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import Field

from commonroot.artifact import text_sha256
from commonroot.errors import DataError
from ingest.fetch import FetchConfig
from ingest.sources.found import TEXT, Found, Source, files_under, sha256_of

__all__ = ["HubConfig"]

DATA = (".parquet", ".jsonl", ".json", ".csv", ".txt", ".arrow", ".gz", ".zst")


class HubConfig(Source):
    """A dataset that `datasets.load_dataset` reads."""

    kind: ClassVar[str] = "dataset"

    dataset: str = ""
    """Name on the hub, or a local folder."""
    subset: str | None = None
    """Its configuration, where it has several."""
    split: str = "train"
    """Split, or a part of one such as train[:1000]."""
    revision: str | None = None
    """Commit or tag on the hub; name one, or the same config may mean other data tomorrow."""
    streaming: bool = True
    """Read rows as they come, and nothing to disk; slices of splits then do not work."""
    text: str = "text"
    """Column of the text."""
    url: str = ""
    """Column of the address, if there is one."""
    licence: str = ""
    """Address of the licence under which the dataset is published."""
    most: int = Field(default=1_000_000, ge=1)
    """Rows to read."""

    @property
    def wanted(self) -> bool:
        """Whether a dataset is named."""
        return bool(self.dataset)

    def fingerprint(self) -> str:
        """Over a local folder's files; of the hub's dataset, its name and revision."""
        if not self._local:
            return text_sha256([self.dataset, self.revision])
        return sha256_of(files_under((self.dataset,), DATA, "gather.hub.dataset"))

    def without_paths(self) -> "HubConfig":
        """With a local folder's name alone."""
        return self.model_copy(update={"dataset": Path(self.dataset).name}) if self._local else self

    def documents(self, fetch: FetchConfig, scratch: Path) -> Iterator[Found]:
        """A row is a document. Raises DataError if there is no such dataset, split or column."""
        del fetch, scratch
        name = Path(self.dataset).name if self._local else self.dataset
        place = f"dataset:{quote(name)}/{quote(self.subset or 'default')}/{quote(self.split)}"
        rows = iter(self._load())
        number = 0
        while True:
            try:
                row = next(rows, None) if number < self.most else None
            except Exception as error:  # whatever a reader raises: what came before is kept
                detail = f"{type(error).__name__} after row {number}"
                yield Found(f"{place}/after-{number}", decision="damaged-file", detail=detail)
                return
            if row is None:
                return
            number += 1
            yield self._document(row, f"{place}/{number}")

    @property
    def _local(self) -> bool:
        return Path(self.dataset).exists()

    def _load(self) -> Any:
        from datasets import load_dataset

        try:
            data = load_dataset(
                self.dataset,
                self.subset,
                split=self.split,
                revision=self.revision,
                streaming=self.streaming,
            )
        except Exception as error:  # many kinds: no such name, no connection, a gated dataset
            said = str(error).strip().splitlines()
            raise DataError(
                f"gather.hub: cannot load {self.dataset!r}, split {self.split!r}: "
                f"{said[0][:200] if said else type(error).__name__}"
            ) from None
        missing = {self.text, self.url} - {""} - set(data.column_names or [self.text, self.url])
        if missing:
            raise DataError(
                f"gather.hub: {self.dataset} has no column {', '.join(sorted(missing))}; it has "
                f"{', '.join(data.column_names)}"
            )
        return data

    def _document(self, row: dict[str, Any], place: str) -> Found:
        own = str(row.get(self.url) or "") if self.url else ""
        text = row.get(self.text)
        body = text.encode("utf-8", "replace") if isinstance(text, str) else b""
        return Found(own or place, TEXT, body, licence=self.licence)
