"""One result of a benchmark: a key a line, each with value, goal, ok and command."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Line", "Result", "measure"]

RESULTS = Path(__file__).parent / "results"


class Result:
    """Collects lines; `keep` writes and prints them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[str, dict[str, Any]] = {}

    def add(self, key: str, value: Any, goal: str, ok: bool, command: str) -> None:
        """One line: what was seen, what was wanted, whether it is enough, how to see it again."""
        self.lines[key] = {"value": value, "goal": goal, "ok": ok, "command": command}

    def keep(self) -> None:
        """Print the lines, and put them into results/NAME.json beside those measured earlier."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        earlier = json.loads(path.read_text("utf-8")) if path.exists() else {}
        lines = dict(sorted({**earlier, **self.lines}.items(), key=lambda item: int(item[0])))
        path.write_text(json.dumps(lines, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(json.dumps(self.lines, indent=1, ensure_ascii=False))


Line = Callable[[Result, Path, bool], None]
"""Adds its figure to the result; works in a folder of its own; true: a quick walk."""


def measure(name: str, description: str | None, lines: Mapping[str, Line]) -> None:
    """The command of a benchmark: the lines that are asked for, or all."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="what is printed anyhow")
    parser.add_argument("--only", action="append", default=[], choices=list(lines))
    parser.add_argument("--work", type=Path, default=Path("runs") / f"bench-{name}")
    parser.add_argument("--quick", action="store_true", help="small and meaningless; not kept")
    given = parser.parse_args()
    work = (given.work / "quick" if given.quick else given.work).resolve()
    for key, line in lines.items():
        if not given.only or key in given.only:
            print(f"line {key}", file=sys.stderr, flush=True)
            result = Result(name)
            (work / f"line-{key}").mkdir(parents=True, exist_ok=True)
            line(result, work / f"line-{key}", given.quick)
            if given.quick:
                print(result.lines)
            else:
                result.keep()
