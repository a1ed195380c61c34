"""One result of a benchmark: a key a line, each with value, goal, ok and command."""

import json
from pathlib import Path
from typing import Any

__all__ = ["Result"]

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
