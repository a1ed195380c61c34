"""Checks a CPU second of Protego and the standard library: `other_robots.py cases.json`.

Runs in an environment that has Protego; prints one JSON object.
"""

import json
import sys
import time
import urllib.robotparser

import protego


def by_protego(robots: str, agent: str, url: str) -> bool:
    """Parse and match, as for every check here."""
    return bool(protego.Protego.parse(robots).can_fetch(url, agent))


def by_library(robots: str, agent: str, url: str) -> bool:
    """The same with urllib.robotparser."""
    parser = urllib.robotparser.RobotFileParser()
    parser.parse(robots.splitlines())
    return parser.can_fetch(agent, url)


def main() -> None:
    """Measure both."""
    with open(sys.argv[1], encoding="utf-8") as file:
        cases = [(case["robots"], case["agent"], case["url"]) for case in json.load(file)]
    rates = {}
    for name, check in (("protego", by_protego), ("urllib.robotparser", by_library)):
        started, done = time.process_time(), 0
        for _ in range(5):
            for case in cases:
                check(*case)
                done += 1
        rates[name] = done / (time.process_time() - started)
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
