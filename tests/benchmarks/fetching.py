"""Fetching under attack, measured: `python -m tests.benchmarks.fetching --json [--only ssrf]`.

Parts of line 8, each kept when it was measured: `ssrf` (a thousand ways into the private network),
`bombs` (memory), `drip` (time), `damage` (losses counted, nothing half-written). A few minutes
altogether; `--quick` is small and not kept.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.fetched import bombs, damage, drip, ssrf
from tests.benchmarks.record import RESULTS, Result

COMMAND = "python -m tests.benchmarks.fetching --json"
GOAL = (
    "1,000 cases: 0 private connects; bombs: cap + 16 MB; drip: 1 s past the deadline; damage: "
    "every loss counted, nothing half-written"
)
Seen = dict[str, Any]


def _ssrf_ok(seen: Seen) -> bool:
    crashed = any(name.startswith("crash") for r in seen["answers"].values() for name in r)
    reached = seen["private_connects"] + seen["reached_a_listener"]
    handed_over = seen["answers"]["through_a_proxy"]["handed_over"]
    return seen["cases"] >= 1_000 and not (crashed or reached or handed_over)


def _bombs_ok(seen: Seen) -> bool:
    pages = seen["most_mb"] <= seen["cap_mb"] + 16.0
    return bool(pages and seen["sitemap_most_mb"] <= seen["sitemap_cap_mb"] + 16.0)


def _drip_ok(seen: Seen) -> bool:
    late = [trick["became"] == "deadline" for trick in seen["tricks"].values()]
    return all(late) and bool(seen["most_s_past_it"] <= 1.0)


def _damage_ok(seen: Seen) -> bool:
    return not any(seen["uncounted"].values()) and all(seen["disk_full"].values())


PARTS: dict[str, tuple[Callable[[Path, bool], Seen], Callable[[Seen], bool]]] = {
    "ssrf": (ssrf.measure, _ssrf_ok),
    "bombs": (bombs.measure, _bombs_ok),
    "drip": (drip.measure, _drip_ok),
    "damage": (damage.measure, _damage_ok),
}


def main() -> None:
    """Measure the parts that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="what is printed anyhow")
    parser.add_argument("--only", action="append", default=[], choices=list(PARTS))
    parser.add_argument("--work", type=Path, default=Path("runs/bench-fetching"))
    parser.add_argument("--quick", action="store_true", help="small; not kept")
    given = parser.parse_args()
    shutil.rmtree(given.work, ignore_errors=True)
    parts = {} if given.quick else _earlier()
    for name, (measure, fine) in PARTS.items():
        if not given.only or name in given.only:
            print(f"part {name}", file=sys.stderr, flush=True)
            seen = measure(given.work / name, given.quick)
            parts[name] = {"ok": fine(seen), **seen}
    result = Result("fetching")
    ok = parts.keys() == PARTS.keys() and all(part["ok"] for part in parts.values())
    result.add("8", parts, GOAL, ok, COMMAND)
    if given.quick:
        print(json.dumps(result.lines, indent=1))
    else:
        result.keep()


def _earlier() -> dict[str, Any]:
    """Parts that were measured before."""
    path = RESULTS / "fetching.json"
    return dict(json.loads(path.read_text("utf-8"))["8"]["value"]) if path.exists() else {}


if __name__ == "__main__":
    main()
