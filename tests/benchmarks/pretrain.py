"""Pretraining, measured: `python -m tests.benchmarks.pretrain --json [--only 3 --only 5]`.

Each line works in a folder of its own below --work and goes on there when it was cut. `--quick`
walks through them, below --work/quick, at a size that shows nothing but that they run.
"""

from tests.benchmarks.pretraining import dial, processes, quality, repeat, resume, speed, steady
from tests.benchmarks.record import Line, measure

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


if __name__ == "__main__":
    measure("pretrain", __doc__, LINES)
