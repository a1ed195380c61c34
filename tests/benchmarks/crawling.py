"""The crawl, measured: `python -m tests.benchmarks.crawling --json [--only 5 --only 7]`.

The keys are those of the issue: 4 robots.txt, 5 speed, 7 kills, 10 refusals. Scrapy and Protego,
which are measured beside it, get an environment of their own below --work.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.crawled import kills, refusals, robots, speed
from tests.benchmarks.crawled.setting import Setting
from tests.benchmarks.record import Result

LINES: dict[str, Callable[[Result, Setting], None]] = {
    "4": robots.line_4,
    "5": speed.line_5,
    "7": kills.line_7,
    "10": refusals.line_10,
}


def main() -> None:
    """Measure the lines that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="what is printed anyhow")
    parser.add_argument("--only", action="append", default=[], choices=list(LINES))
    parser.add_argument("--data", type=Path, help="the folder with robots/cases.json (line 4)")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-crawling"))
    parser.add_argument("--quick", action="store_true", help="small and meaningless; not kept")
    given = parser.parse_args()
    setting = Setting(given.work.resolve(), given.data, given.quick)
    for key, line in LINES.items():
        if key in given.only or not given.only:
            print(f"line {key}", file=sys.stderr, flush=True)
            result = Result("crawling")
            line(result, setting)
            if given.quick:
                print(result.lines)
            else:
                result.keep()


if __name__ == "__main__":
    main()
