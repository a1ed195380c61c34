"""Federation, measured: `python -m tests.benchmarks.federate --json [--only 3 --only 5]`.

Each line works in a folder of its own below --work and goes on there when it was cut. All lines
together take some hours on two cores; `--quick` walks through them, below --work/quick, at a size
that shows nothing but that they run.
"""

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
from tests.benchmarks.record import Line, measure

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


if __name__ == "__main__":
    measure("federate", __doc__, LINES)
