"""Web data that a provider collects or sells: Bright Data's Web Scraper and dataset APIs.

Trigger a collection (or filter a dataset), wait for its snapshot, download the snapshot part by
part. What the provider delivered as files (a bought data package) enters by the same door. Spec:
https://docs.brightdata.com/api-reference/rest-api/scraper/asynchronous-requests and
https://docs.brightdata.com/api-reference/marketplace-dataset-api/filter-dataset.
"""

import gzip
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import requests
from pydantic import Field

from commonroot.artifact import text_sha256, write_atomic
from commonroot.errors import DataError, FetchError
from commonroot.progress import say
from ingest.deadline import Deadlines
from ingest.fetch import FetchConfig
from ingest.guard import AddressRefused, GuardedAdapter
from ingest.links import canonical_url
from ingest.sources.found import TEXT, Found, Source, files_under, sha256_of

__all__ = ["BrightDataConfig"]

KEY = "BRIGHTDATA_API_KEY"
ENDINGS = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz")
AGAIN = (429, 500, 502, 503, 504)
DONE, BROKEN = ("ready",), ("failed", "canceled", "cancelled")
HTML = ("html", "page_html", "raw_html")
"""Columns that hold a page and not its text."""


class BrightDataConfig(Source):
    """A collection, a snapshot that exists, or files that were delivered."""

    kind: ClassVar[str] = "bought"

    dataset: str = Field("", pattern="^(gd_[a-z0-9]+)?$")
    """Identifier of the scraper or dataset, gd_…; together with `inputs` or `filter`."""
    inputs: tuple[dict[str, Any], ...] = ()
    """What the scraper is to collect, such as { url = "https://…" } for each page."""
    filter: dict[str, Any] = Field(default_factory=dict)
    """Of a dataset: the records to buy, as the provider's filter syntax has it."""
    snapshots: tuple[str, ...] = ()
    """Snapshots that exist already; downloading them again costs nothing."""
    files: tuple[str, ...] = ()
    """Delivered files, or folders of them: JSON or JSON lines, .gz or not."""
    text: str = "text"
    """Field of the text, or of the page if it is called html, page_html or raw_html."""
    url: str = "url"
    """Field of the address."""
    licence: str = ""
    """Address of the terms under which the data was bought."""
    most_records: int = Field(1_000, ge=1)
    """Spend cap: a collection or filter asks for no more, and a larger snapshot is refused."""
    usd_per_1000: float = Field(1.5, ge=0)
    """Price that you pay for a thousand records: the estimate that is shown beforehand."""
    most_usd: float = Field(1.0, ge=0)
    """Spend cap in US dollars at that price; a larger order is refused before anything is sent."""
    poll_s: float = Field(10.0, gt=0, le=600)
    """Seconds between two looks at a snapshot that is not ready."""
    wait_minutes: float = Field(120.0, gt=0)
    """How long a snapshot is waited for."""
    part_records: int = Field(1_000, ge=1)
    """Records of a downloaded part."""
    call_s: float = Field(300.0, gt=0)
    """Seconds for one answer, however slowly it comes."""
    part_bytes: int = Field(200_000_000, ge=1_000)
    """Bytes of a part; a longer one is refused."""
    api: str = Field("https://api.brightdata.com", pattern="^https?://[^/]+$")
    """Where the API is. The key comes from the environment (BRIGHTDATA_API_KEY), never from a
    config."""

    @property
    def wanted(self) -> bool:
        """Whether anything is named."""
        return bool(self.dataset or self.snapshots or self.files)

    def fingerprint(self) -> str:
        """Over what is ordered, the snapshots' names and the files' bytes."""
        if bool(self.dataset) != bool(self.inputs or self.filter):
            raise DataError("gather.brightdata.dataset needs inputs or a filter, and they need it")
        if self.inputs and self.filter:
            raise DataError("gather.brightdata: inputs are for a scraper, a filter for a dataset")
        self._affordable(len(self.inputs) if self.inputs else self.most_records)
        ordered = [self.dataset, self.inputs, self.filter, self.most_records]
        files = sha256_of(files_under(self.files, ENDINGS, "gather.brightdata.files"))
        return text_sha256([ordered if self.dataset else [], self.snapshots, files])

    def without_paths(self) -> "BrightDataConfig":
        """With the files' names alone."""
        return self.model_copy(update={"files": tuple(Path(file).name for file in self.files)})

    def documents(self, fetch: FetchConfig, scratch: Path) -> Iterator[Found]:
        """Records of the files, the snapshots, and the collection, in that order."""
        for path in files_under(self.files, ENDINGS, "gather.brightdata.files"):
            for number, row in enumerate(_delivered(path), 1):
                yield self._found(row, f"bought:{path.name}/{number}")
        if not (self.snapshots or self.dataset):
            return
        with _Api(self, fetch) as api:
            for snapshot in (*self.snapshots, *api.ordered(scratch)):
                for number, row in enumerate(api.records(snapshot), 1):
                    yield self._found(row, f"bought:{snapshot}/{number}")

    def _affordable(self, records: int) -> None:
        cost = records * self.usd_per_1000 / 1000
        if self.dataset and (records > self.most_records or cost > self.most_usd):
            raise DataError(
                f"gather.brightdata would order {records:,} records for about {cost:.2f} US "
                f"dollars: raise most_records ({self.most_records:,}) or most_usd "
                f"({self.most_usd:g}), or order less"
            )

    def _found(self, row: Any, place: str) -> Found:
        if not isinstance(row, Mapping):
            return Found(place, decision="damaged-record", detail="no JSON object")
        url = canonical_url(str(row.get(self.url) or "")) or place
        wrong = row.get("error") or row.get("error_code")
        if wrong:
            return Found(url, decision="provider-error", detail=str(wrong)[:200])
        text = row.get(self.text)
        body = text.encode("utf-8", "replace") if isinstance(text, str) else b""
        page = self.text in HTML
        kind = "text/html; charset=utf-8" if page else TEXT
        missing = f"no field {self.text}" if text is None else ""
        return Found(url, kind, body, detail=missing, licence=self.licence)


def _delivered(path: Path) -> Iterator[Any]:
    """Records of a file; a line that is no JSON is given as None."""
    unpack: Any = gzip.open if path.name.endswith(".gz") else open
    try:
        with unpack(path, "rb") as file:
            if ".json" in path.suffixes:
                whole = json.load(file)
                yield from whole if isinstance(whole, list) else [whole]
                return
            for line in file:
                if line.strip():
                    yield _record(line)
    except (OSError, EOFError, ValueError):
        yield None  # what came before the damage is kept


def _record(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


@dataclass
class _Answer:
    status: int
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    @property
    def why(self) -> str:
        said = self.json()
        fields = ("error", "error_message", "message", "validation_errors")
        given = [said[name] for name in fields if isinstance(said, dict) and said.get(name)]
        text = str(given[0]) if given else self.body[:120].decode("utf-8", "replace").strip()
        return f"HTTP {self.status}" + (f", {text[:200]}" if text else "")


class _KeyRefused(FetchError):
    pass


class _Api:
    """The provider's API: every answer bounded in time and size, every failure one line."""

    def __init__(self, config: BrightDataConfig, fetch: FetchConfig) -> None:
        self.config, self.fetch = config, fetch
        self.key = os.environ.get(KEY, "")
        if not self.key:
            raise DataError(f"gather.brightdata needs the API key in the environment: set {KEY}")
        self._session = requests.Session()
        self._session.trust_env = False
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, GuardedAdapter(fetch.connect, 1))
        self._deadlines = Deadlines()

    def __enter__(self) -> "_Api":
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()
        self._deadlines.close()

    def ordered(self, scratch: Path) -> list[str]:
        """The snapshot of what the config orders, [] if it orders nothing.

        What was ordered before a kill is not ordered again: it is paid for. Raises FetchError if it
        is not known whether it was.
        """
        config, taken, sent = self.config, scratch / "snapshot", scratch / "order-sent"
        if not config.dataset:
            return []
        if taken.exists():
            return [taken.read_text()]
        if sent.exists():
            raise FetchError(
                "gather.brightdata: an order was sent before this was killed, and may be paid for: "
                f"name its snapshot in snapshots, or delete {sent} to order again"
            )
        write_atomic(sent, "")
        try:
            answer = self._order()
        except _KeyRefused:
            sent.unlink()
            raise
        snapshot = answer.json().get("snapshot_id") if answer.status == 200 else None
        if not snapshot:
            if answer.status:  # it was answered, so it is known that nothing was ordered
                sent.unlink()
            raise FetchError(f"gather.brightdata: the order was not taken: {answer.why}")
        write_atomic(taken, str(snapshot))
        say(f"brightdata: ordered snapshot {snapshot}; to fetch it again: snapshots = [...]")
        return [str(snapshot)]

    def _order(self) -> _Answer:
        config = self.config
        if config.inputs:
            path = f"/datasets/v3/trigger?dataset_id={config.dataset}&format=ndjson"
            path += f"&include_errors=true&limit_multiple_results={config.most_records}"
            return self._call("POST", path, list(config.inputs))
        bought = {"records_limit": config.most_records, "filter": config.filter}
        return self._call("POST", "/datasets/filter", {"dataset_id": config.dataset, **bought})

    def records(self, snapshot: str) -> Iterator[Any]:
        """All records of a snapshot once it is ready, part by part."""
        self._wait(snapshot)
        part, taken, size = 1, 0, self.config.part_records
        while True:
            rows = self._part(snapshot, part)
            taken += len(rows)
            if taken > self.config.most_records:
                raise DataError(
                    f"gather.brightdata: snapshot {snapshot} holds more than most_records "
                    f"({self.config.most_records:,}): raise it to take them all"
                )
            yield from rows
            if len(rows) < size:
                return
            part += 1

    def _wait(self, snapshot: str) -> None:
        """Until the snapshot is ready."""
        end = time.monotonic() + 60 * self.config.wait_minutes
        while True:
            answer = self._call("GET", f"/datasets/v3/progress/{snapshot}")
            status = str(answer.json().get("status")) if answer.status == 200 else ""
            if status in DONE:
                return
            if answer.status != 200 or status in BROKEN:
                raise FetchError(f"gather.brightdata: snapshot {snapshot} failed: {answer.why}")
            self._pause(end, snapshot, status)

    def _part(self, snapshot: str, part: int) -> list[Any]:
        """A part; one that is still being built is asked for again."""
        end = time.monotonic() + 60 * self.config.wait_minutes
        size = self.config.part_records
        path = f"/datasets/v3/snapshot/{snapshot}?format=ndjson&batch_size={size}&part={part}"
        while True:
            answer = self._call("GET", path)
            if answer.status == 200:
                return [_record(line) for line in answer.body.splitlines() if line.strip()]
            if answer.status in (400, 404) and part > 1:
                return []  # the snapshot's size is a multiple of a part's
            if answer.status == 400 and "empty" in answer.why.lower():
                return []
            if answer.status != 202:
                raise FetchError(
                    f"gather.brightdata: part {part} of snapshot {snapshot}: {answer.why}"
                )
            self._pause(end, snapshot, "building")

    def _pause(self, end: float, snapshot: str, status: str) -> None:
        if time.monotonic() + self.config.poll_s > end:
            raise FetchError(
                f"gather.brightdata: snapshot {snapshot} is {status} after "
                f"{self.config.wait_minutes:g} minutes; name it in snapshots to go on later"
            )
        say(f"brightdata: snapshot {snapshot} is {status}")
        time.sleep(self.config.poll_s)

    def _call(self, method: str, path: str, order: Any = None) -> _Answer:
        """Ask; what may pass is asked again, but an order only if it surely was not taken."""
        answer = _Answer(0, b"no answer")
        for attempt in range(self.fetch.retries + 1):
            try:
                answer = self._once(method, path, order)
            except AddressRefused as error:
                raise FetchError(f"gather.brightdata: {error}") from None
            except requests.RequestException as error:
                answer = _Answer(0, type(error).__name__.encode())
                if method == "POST" and not isinstance(error, requests.ConnectTimeout):
                    break  # it may have been taken, and a second order is paid for
            if answer.status in (401, 403):
                raise _KeyRefused(f"gather.brightdata: the key in {KEY} is refused: {answer.why}")
            again = answer.status == 429 if method == "POST" else answer.status in (0, *AGAIN)
            if not again:
                break
            if attempt < self.fetch.retries:
                time.sleep(min(self.config.poll_s, 0.5 * 2**attempt))
        return answer

    def _once(self, method: str, path: str, order: Any) -> _Answer:
        with self._deadlines.watch(self.config.call_s), self._session.request(
            method,
            self.config.api + path,
            json=order,
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=self.fetch.deadline_s,
            allow_redirects=False,  # the key goes to nobody else
            stream=True,
        ) as raw:
            body = bytearray()
            for chunk in raw.iter_content(64 * 1024):
                body += chunk
                if len(body) > self.config.part_bytes:
                    raise FetchError("gather.brightdata: the answer is longer than part_bytes")
            return _Answer(raw.status_code, bytes(body))
