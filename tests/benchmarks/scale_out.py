"""Cleaning on a Ray cluster, and what a snapshot of Common Crawl would cost:
`python -m tests.benchmarks.scale_out --json [--only 11] [--data FOLDER OF HTML]`.

Line 11 cleans three WARC files on this machine, on a Ray of one node and on a cluster of three
nodes of which one is taken away while it works. Line 12 multiplies: it measures what one more page
costs, and writes the table into docs/scale.md. Without --data the demo's short pages stand for the
web's, which is too kind; `../shared/data/extraction/html` holds real ones.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.record import Result

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "docs" / "scale.md"
COMMAND = "python -m tests.benchmarks.scale_out --json"
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
SNAPSHOT = {"name": "CC-MAIN-2024-51", "pages": 2.64e9, "bytes": 394 * 2**40}
"""Pages and uncompressed bytes, as its announcement of December 2024 states."""
FINDING = 3_000
"""Bytes that the leading process keeps of a page (ingest/passes.py): what
a hundred more pages add to its peak is mostly the archive's buffers."""
SEEDS = (1, 2, 3)


def commonroot(*args: str | Path) -> dict[str, Any]:
    """What a command printed, its CPU seconds with those of its children, and the most memory
    (bytes) of its own process."""
    command = [sys.executable, "-m", "commonroot", *map(str, args), "--json"]
    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    peak = 0
    said: list[str] = []
    readers = [
        threading.Thread(target=lambda: said.append(process.stdout.read())),  # type: ignore[union-attr]
        threading.Thread(target=lambda: said.append(process.stderr.read())),  # type: ignore[union-attr]
    ]
    for reader in readers:
        reader.start()
    while True:
        peak = max(peak, _high_water(process.pid))
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    for reader in readers:
        reader.join()
    lines = [line for text in said for line in text.splitlines()]
    answer = next((line for line in lines if line.startswith('{"run"')), "")
    if not answer:
        raise SystemExit(f"{' '.join(command)} failed: {' '.join(said)[-400:]}")
    return {**json.loads(answer), "cpu_s": usage.ru_utime + usage.ru_stime, "peak": peak}


def _high_water(pid: int) -> int:
    try:
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def archives(work: Path, pages: int) -> list[Path]:
    """WARC files of crawls of three demo sites, and of every site other texts."""
    made = []
    for seed in SEEDS:
        run = work / f"site-{seed}"
        commonroot("gather", "--run", run, "--set", f"gather.demo.pages={pages}",
                   "--set", f"gather.demo.seed={seed}", "--set", "gather.web.max_pages=6000")
        made.append(run / "1-web" / "pages.warc.gz")
    return made


def gathered(work: Path, name: str, sets: list[str]) -> Path:
    run = work / name
    config = work / "empty.toml"
    config.write_text("")
    options = [part for one in sets for part in ("--set", one)]
    commonroot("gather", "--config", config, "--run", run, *options)
    return run


def cleaned(web: Path, name: str, *sets: str) -> dict[str, Any]:
    """A corpus made of the archive of run `web`, in a run of its own."""
    run = web.with_name(f"{web.name}-{name}")
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    (run / "1-web").symlink_to((web / "1-web").resolve())
    options = [part for one in sets for part in ("--set", one)]
    started = time.perf_counter()
    done = commonroot("clean", "--config", web.parent / "empty.toml", "--run", run, *options)
    size = sum(file.stat().st_size for file in (run / "2-corpus" / "data").iterdir())
    return {
        "digest": done["artifacts"]["corpus"]["digest"], "pages": done["metrics"]["pages"],
        "kept": done["metrics"]["kept"], "text_bytes": done["metrics"]["bytes"],
        "corpus_bytes": size, "cpu_s": round(done["cpu_s"], 2), "driver_bytes": done["peak"],
        "seconds": round(time.perf_counter() - started, 1),
    }


def on_a_cluster(web: Path) -> dict[str, Any]:
    """Three Ray nodes of one worker each; the last is taken away after some seconds of work."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
    node = {"num_cpus": 1, "object_store_memory": 2 * 10**8}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node)
        lost = cluster.add_node(**node)
        timer = threading.Timer(12.0, lambda: cluster.remove_node(lost, allow_graceful=False))
        timer.start()
        try:
            made = cleaned(web, "cluster", "clean.executor=ray", "clean.workers=3",
                           f"clean.ray_address={cluster.address}")
            made["node_was_lost"] = not timer.is_alive()
        finally:
            timer.cancel()
        return made
    finally:
        cluster.shutdown()


def line_11(result: Result, work: Path, pages: int, data: Path | None) -> None:
    del data
    files = archives(work, pages)
    listed = ", ".join(f"'{file}'" for file in files)
    web = gathered(work, "three-files", [f"gather.warc.files=[{listed}]"])
    runs = {
        "local": cleaned(web, "local", "clean.workers=2"),
        "ray": cleaned(web, "ray", "clean.executor=ray", "clean.workers=2"),
        "ray_three_nodes_one_lost": on_a_cluster(web),
    }
    digests = {run["digest"] for run in runs.values()}
    lost = runs["ray_three_nodes_one_lost"]["node_was_lost"]
    value = {
        "warc_files": len(files), "pages": runs["local"]["pages"], "digests": len(digests),
        "runs": runs,
    }
    result.add("11", value, "one content digest, also when a node is lost", len(digests) == 1
               and lost, f"{COMMAND} --only 11")


def line_12(result: Result, work: Path, pages: int, data: Path | None) -> None:
    """What one more page costs: the same at all and at half of the pages."""
    names = sorted(data.glob("*.html*")) if data else []
    if data:
        half, whole = (_folder(work, names[::step], step) for step in (2, 1))
        source = "real pages"
    else:
        files = archives(work, pages)
        half, whole = ([f"gather.warc.files=[{', '.join(map(repr, map(str, part)))}]"]
                       for part in (files[:1], files))
        source = "pages of the demo site"
    less = _costs(work, "half", half)
    more = _costs(work, "whole", whole)
    extra = more["pages"] - less["pages"]
    page = {
        name: (more[name] - less[name]) / extra
        for name in ("cpu_s", "driver_bytes", "body_bytes", "text_bytes", "corpus_bytes")
    }
    paper = projected(page)
    value = {"measured_on": source, "pages": more["pages"], "a_page": page, "snapshot": paper}
    result.add("12", value, "measured figures, multiplied", True,
               f"{COMMAND} --only 12" + (" --data FOLDER" if data else ""))
    write_table(source, page, paper)


def _folder(work: Path, names: list[Path], step: int) -> list[str]:
    folder = work / f"pages-{step}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in names:
        target = folder / name.name
        body = name.read_bytes()
        if name.suffix == ".gz":
            import gzip

            target, body = target.with_suffix(""), gzip.decompress(body)
        target.write_bytes(body)
    return [f"gather.files.folder='{folder}'"]


def _costs(work: Path, name: str, sets: list[str]) -> dict[str, Any]:
    web = gathered(work, name, sets)
    manifest = json.loads((web / "1-web" / "manifest.json").read_text("utf-8"))
    made = cleaned(web, "cost", "clean.workers=1", "clean.languages=[]")
    return {**made, "body_bytes": manifest["metrics"]["bytes"]}


def projected(page: dict[str, float]) -> dict[str, float]:
    """A snapshot's cost: by pages, and by bytes, as its pages are longer than the measured."""
    pages, size = float(SNAPSHOT["pages"]), float(SNAPSHOT["bytes"])  # type: ignore[arg-type]
    by_bytes = size / max(page["body_bytes"], 1.0)
    return {
        "core_hours_by_pages": page["cpu_s"] * pages / 3600,
        "core_hours_by_bytes": page["cpu_s"] * by_bytes / 3600,
        "driver_memory_tb": FINDING * pages / 1e12,
        "corpus_tb": page["corpus_bytes"] * pages / 1e12,
        "signatures_tb": 112 * 4 * pages / 1e12,
    }


def write_table(source: str, page: dict[str, float], paper: dict[str, float]) -> None:
    """Between the marks in docs/scale.md."""
    rows = {
        f"cleaning, one more page ({source}, {page['body_bytes'] / 1e3:.0f} KB)":
            f"{1e3 * page['cpu_s']:.1f} ms of a core",
        "memory of the process that leads, one more page": f"{FINDING / 1e3:.0f} KB",
        "parquet, one more page": f"{page['corpus_bytes'] / 1e3:.2f} KB",
        "**the snapshot**, core-hours, a page there costing as one here":
            f"{paper['core_hours_by_pages']:,.0f}",
        "core-hours, a byte there costing as one here": f"{paper['core_hours_by_bytes']:,.0f}",
        "days on 1,000 cores": f"{paper['core_hours_by_pages'] / 24e3:.1f} to "
                               f"{paper['core_hours_by_bytes'] / 24e3:.1f}",
        "memory, if one process led all of it": f"{paper['driver_memory_tb']:.1f} TB",
        "MinHash signatures of all pages (112 of 4 bytes)": f"{paper['signatures_tb']:.2f} TB",
        "corpus on disk, parquet": f"{paper['corpus_tb']:.1f} TB",
    }
    table = "| figure | |\n|---|---|\n" + "".join(f"| {k} | {v} |\n" for k, v in rows.items())
    text = DOC.read_text("utf-8")
    text = re.sub(r"(<!-- snapshot -->\n).*?(<!-- /snapshot -->)",
                  lambda mark: f"{mark[1]}{table}{mark[2]}", text, flags=re.DOTALL)
    DOC.write_text(text, encoding="utf-8")


def main() -> None:
    """Measure the lines that are asked for, or both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="what is printed anyhow")
    parser.add_argument("--only", action="append", default=[], choices=["11", "12"])
    parser.add_argument("--work", type=Path, default=Path("runs/bench-scale-out"))
    parser.add_argument("--pages", type=int, default=400, help="pages of each of three sites")
    parser.add_argument("--data", type=Path, help="a folder of HTML pages, for line 12")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    for key, line in {"11": line_11, "12": line_12}.items():
        if not given.only or key in given.only:
            result = Result("scale_out")
            folder = given.work.resolve() / f"line-{key}"
            folder.mkdir(parents=True, exist_ok=True)
            line(result, folder, given.pages, given.data)
            result.keep()


if __name__ == "__main__":
    main()
