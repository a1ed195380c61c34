"""Pretraining, measured: `python -m tests.benchmarks.pretrain --json [--only 3 --only 5]`.

Each line works in a folder of its own below --work and goes on there when it was cut. `--quick`
walks through them, below --work/quick, at a size that shows nothing but that they run.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.pretraining import dial, processes, quality, repeat, resume, speed, steady
from tests.benchmarks.record import Result

Line = Callable[[Result, Path, bool], None]
LINES: dict[str, Line] = {
    "1": speed.line_1,
    "2": quality.line_2,
    "3": resume.line_3,
    "4": processes.line_4,
    "5": repeat.line_5,
    "6": dial.line_6,
    "7": dial.line_7,
    "8": steady.line_8,
}


def main() -> None:
    """Measure the lines that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="what is printed anyhow")
    parser.add_argument("--only", action="append", default=[], choices=list(LINES))
    parser.add_argument("--work", type=Path, default=Path("runs/bench-pretrain"))
    parser.add_argument("--quick", action="store_true", help="small and meaningless; not kept")
    given = parser.parse_args()
    work = (given.work / "quick" if given.quick else given.work).resolve()
    for key, line in LINES.items():
        if not given.only or key in given.only:
            print(f"line {key}", file=sys.stderr, flush=True)
            result = Result("pretrain")
            (work / f"line-{key}").mkdir(parents=True, exist_ok=True)
            line(result, work / f"line-{key}", given.quick)
            if given.quick:
                print(result.lines)
            else:
                result.keep()


if __name__ == "__main__":
    main()
