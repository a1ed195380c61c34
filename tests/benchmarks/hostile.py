"""Does any page make extraction crash or hang? Seeded hostile inputs, both modes, killable child.

python -m tests.benchmarks.hostile --json [--count 100000] [--minutes 60] [--quick]
"""
# ruff: noqa: SIM905

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from commonroot.progress import bar
from ingest.extract import Mode, extract
from ingest.isolate import Limits, Lost, run_isolated
from tests.benchmarks.record import Result

__all__ = ["KINDS", "hostile"]

TAGS = (
    "div p span a b i em table tr td th ul ol li dl dt dd h1 h2 h3 form input select option pre "
    "code blockquote article main nav aside footer header section figure figcaption img br hr "
    "script style noscript textarea title svg math template iframe button label font center "
    "frameset body html head base meta link object x-y details summary ruby rt"
).split()
CHARSETS = (
    "utf-8 utf-7 utf-16 utf-16-be utf-32 shift_jis gb18030 hz iso-2022-jp koi8-r cp037 idna "
    "punycode rot13 zlib undefined unicode_escape big5 euc-kr windows-1252 no-such-thing"
).split()
PROSE = "The river, they say, rises in the hills. It carries snow water in spring. "
SEED, USUAL, HEAVY = 8, (6, 14), (17, 20)
GOAL = "100,000 hostile inputs: 0 crashes, none over 2 CPU-s"

Maker = Callable[[random.Random, int], bytes]


def page(rng: random.Random, size: int) -> str:
    """An ordinary page of about `size` characters, to be spoiled."""
    parts = ["<html><head><title>River</title></head><body><nav><a href=/>Home</a></nav><article>"]
    while sum(map(len, parts[-50:])) < 1 or len(parts) * 200 < size:
        parts.append(f"<p class=c{rng.randrange(9)}>{PROSE * rng.randrange(1, 5)}</p>")
    return "".join(parts) + "</article><footer>Imprint</footer></body></html>"


def noise(rng: random.Random, size: int) -> bytes:
    """Random bytes, with or without a doctype."""
    return rng.choice((b"", b"<!doctype html>", b"<html><body>")) + rng.randbytes(size)


def mutated(rng: random.Random, size: int) -> bytes:
    """A page with bytes changed, removed, doubled or moved."""
    data = bytearray(page(rng, size).encode())
    for _ in range(rng.randrange(1, 60)):
        at, span = rng.randrange(len(data)), rng.randrange(1, 40)
        act = rng.randrange(4)
        if act == 0:
            data[at] = rng.choice(b"<>&\"'/=!-\0\xff;#")
        elif act == 1:
            del data[at : at + span]
        elif act == 2:
            data[at:at] = data[at : at + span] * rng.randrange(1, 20)
        else:
            data[at:at] = rng.randbytes(span)
        data = data or bytearray(b"<")
    return bytes(data)


def soup(rng: random.Random, size: int) -> bytes:
    """Tags opened and closed at random."""
    out: list[str] = []
    length = 0
    while length < size:
        piece = f"<{rng.choice(('', '', '/'))}{rng.choice(TAGS)}"
        piece += rng.choice((">", " class='comment'>", ' id="x">', "/>", " hidden>", " a=>", ""))
        piece += rng.choice(("", "", "text, more text. ", PROSE))
        out.append(piece)
        length += len(piece)
    return "".join(out).encode()


def nested(rng: random.Random, size: int) -> bytes:
    """One or a few elements within themselves, as deep as the size allows."""
    names = rng.sample(TAGS, rng.randrange(1, 4))
    opening = "".join(f"<{name}>" for name in names)
    depth = max(size // len(opening), 1)
    closing = "".join(f"</{name}>" for name in reversed(names)) if rng.random() < 0.5 else ""
    inner = rng.choice(("", "x", PROSE * 9))
    return (opening * depth + inner + closing * depth).encode()


def repeated(rng: random.Random, size: int) -> bytes:
    """What a parser may scan for to the end again and again."""
    piece = rng.choice((
        "<!--", "<!-- -", "<![CDATA[", "<?", "<!", "</", "<", "<a \"", "<a '", "<a b=", "&", "&#",
        "&#x110000;", "&#0;", "&amp", "<script>", "<style>", "<title>", "<textarea>", "<svg><",
        "<p>", "<br>", "<a>", "<td>", "<li>", "<form>", "<table>", "<h1>x", "<b><p>", "<a><p>x",
        "<option>", "<p>, . ", "x ", ", ", "é", "\u202e", "|", "<p>Share</p>", "<br>a. ",
        "<p>" + PROSE, "<table><tr><td>" + PROSE, "<div>" + PROSE, "<blockquote>", "<i><u><s>",
    ))
    text = piece * max(size // len(piece), 1)
    return (rng.choice(("", page(rng, 500))) + text + rng.choice(("", PROSE * 5))).encode()


def attributes(rng: random.Random, size: int) -> bytes:
    """Huge and many attributes."""
    if rng.random() < 0.5:
        value = rng.choice(("a", "comment ", "x-", "ad", "display:none;", "\u00e9")) * size
        held = f"{rng.choice(('class', 'id', 'style', 'href', 'role', 'title'))}='{value[:size]}'"
    else:
        held = " ".join(f"a{number}={number}" for number in range(size // 9))
    return f"<body><div {held}><p>{PROSE * 5}</p></div>{page(rng, 300)}".encode()


def nulls(rng: random.Random, size: int) -> bytes:
    """NUL, control and invalid characters within tags and text."""
    data = page(rng, size)
    for bad in rng.sample(("\0", "\x0b", "\x1f", "\x7f", "\ufffe", "\ud800", "\u2028", "\r"), 4):
        data = data.replace(rng.choice(("e", " ", "<", ">", "p")), rng.choice((bad, bad * 3)), 400)
    return data.encode("utf-8", "surrogatepass")


def lying(rng: random.Random, size: int) -> bytes:
    """Declared in one character set, written in another."""
    written = rng.choice(("utf-8", "utf-16", "utf-32", "cp1252", "shift_jis", "utf-16-be"))
    mark = rng.choice((b"", b"", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"))
    meta = f"<meta charset='{rng.choice(CHARSETS)}'>"
    body = page(rng, size).replace("river", "r\u00edver \u65e5\u672c").encode(written, "replace")
    return mark + meta.encode() + body + rng.randbytes(rng.randrange(9))


KINDS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (noise, mutated, soup, nested, repeated, attributes, nulls, lying)
}


@dataclass(frozen=True)
class Input:
    """One hostile page: made in the child from its number, so that little moves."""

    number: int
    heavy: bool


def hostile(number: int, heavy: bool = False) -> tuple[str, bytes]:
    """Kind and bytes of input `number`; the same ones each time."""
    rng = random.Random(f"{SEED}-{number}")
    kind = list(KINDS)[number % len(KINDS)]
    return kind, KINDS[kind](rng, int(2 ** rng.uniform(*(HEAVY if heavy else USUAL))))


def attempt(given: Input) -> dict[str, float]:
    """CPU seconds of each mode on one input."""
    _, data = hostile(given.number, given.heavy)
    spent: dict[str, float] = {}
    modes: tuple[Mode, ...] = ("fast", "quality")
    for mode in modes:
        began = time.process_time()
        extract(data, "http://hostile.example/", mode)
        spent[mode] = time.process_time() - began
    return spent


def main() -> None:
    """Run, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=60.0, help="stops after this long")
    parser.add_argument("--quick", action="store_true", help="300 inputs, kept nowhere")
    parser.add_argument("--json", action="store_true", help="as in all benchmarks; always done")
    chosen = parser.parse_args()
    count = 300 if chosen.quick else chosen.count
    value = _run(count, time.monotonic() + 60 * chosen.minutes)
    enough = value["inputs"] >= 100_000 and not value["crashes"] and not value["over_2_cpu_s"]
    result = Result("hostile")
    result.add("8", value, GOAL, enough, "python -m tests.benchmarks.hostile --json")
    if chosen.quick:
        print(result.lines)
    else:
        result.keep()


def _run(count: int, until: float) -> dict[str, Any]:
    crashes: Counter[str] = Counter()
    slowest: dict[str, list[Any]] = {mode: [0.0, "", 0] for mode in ("fast", "quality")}
    over = done = heavy = 0
    with bar(count, "hostile", "inputs", 0) as shown:
        for given, spent in run_isolated(attempt, _inputs(count, until), Limits(cpu_s=20), 2):
            done, heavy = done + 1, heavy + given.heavy
            shown.advance()
            kind = list(KINDS)[given.number % len(KINDS)]
            if isinstance(spent, Lost):
                crashes[f"{kind} {given.number}: {spent.reason}"] += 1
                continue
            over += max(spent.values()) > 2.0
            for mode, seconds in spent.items():
                slowest[mode] = max(slowest[mode], [round(seconds, 3), kind, given.number])
    return {"inputs": done, "heavy": heavy, "crashes": crashes.total(), "over_2_cpu_s": over,
            "slowest": slowest, "first_crashes": dict(crashes.most_common(20))}


def _inputs(count: int, until: float) -> Iterator[Input]:
    """Every 200th is of up to a megabyte, and so are the first of each kind."""
    for number in range(count):
        if time.monotonic() > until:
            return
        yield Input(number, number % 201 == 0 or number < 5 * len(KINDS))


if __name__ == "__main__":
    main()
