"""Federation, measured: `python -m tests.benchmarks.federate --json [--only 3 --only 5]`.

Each line works in a folder of its own below --work and goes on there when it was cut. All lines
together take some hours on two cores; `--quick` walks through them, below --work/quick, at a size
that shows nothing but that they run.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.federated import (
    bandwidth,
    bits,
    devices,
    engine,
    gap,
    lora,
    population,
    retention,
    root,
    third_party,
)
from tests.benchmarks.record import Result

Line = Callable[[Result, Path, bool], None]
LINES: dict[str, Line] = {
    "1": gap.line_1,
    "2": gap.line_2,
    "3": bandwidth.line_3,
    "4": root.line_4,
    "5": devices.line_5,
    "6": engine.line_6,
    "7": population.line_7,
    "8": bits.line_8,
    "9": lora.line_9,
    "10": retention.line_10,
    "11": third_party.line_11,
}


def main() -> None:
    """Measure the lines that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="what is printed anyhow")
    parser.add_argument("--only", action="append", default=[], choices=list(LINES))
    parser.add_argument("--work", type=Path, default=Path("runs/bench-federate"))
    parser.add_argument("--quick", action="store_true", help="small and meaningless; not kept")
    given = parser.parse_args()
    work = given.work / "quick" if given.quick else given.work
    for key, line in LINES.items():
        if not given.only or key in given.only:
            print(f"line {key}", file=sys.stderr, flush=True)
            result = Result("federate")
            line(result, work / f"line-{key}", given.quick)
            if given.quick:
                print(result.lines)
            else:
                result.keep()


if __name__ == "__main__":
    main()
