"""The law of the tree: imports flow with the data, and the README's tree is the tree."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "commonroot": set(),
    "ingest": {"commonroot"},
    "pretrain": {"commonroot", "ingest"},
    "federate": {"commonroot", "ingest", "pretrain", "flowerapp"},
    "flowerapp": set(),
}
MEETING_PLACES = {
    "commonroot/cli.py": {"ingest", "pretrain", "federate"},
    "flowerapp/server.py": {"federate"},
}
"""Where a later stage is imported on purpose, inside a function."""


def imports_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def sources() -> list[Path]:
    return sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_flow_with_the_data(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    package = name.partition("/")[0]
    tree = ast.parse(path.read_text("utf-8"))
    tops = {module.partition(".")[0] for module in imports_of(tree)}
    ours = tops & MAY_IMPORT.keys()
    assert ours <= MAY_IMPORT[package] | {package} | MEETING_PLACES.get(name, set())
    if name in MEETING_PLACES:
        outer = {m.partition(".")[0] for node in tree.body for m in imports_of_statement(node)}
        assert not outer & MEETING_PLACES[name], "a later stage is imported inside the function"


def imports_of_statement(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from imports_of(node)


@pytest.mark.parametrize("name", ["client.py", "frame.py", "__init__.py"])
def test_the_code_that_travels_needs_only_flower(name: str) -> None:
    tree = ast.parse((ROOT / "flowerapp" / name).read_text("utf-8"))
    allowed = sys.stdlib_module_names | {"flwr", "flowerapp"}
    tops = {module.partition(".")[0] for module in imports_of(tree)}
    assert tops <= allowed


def test_no_file_is_called_after_nothing() -> None:
    vague = {"utils", "util", "common", "helpers", "core", "misc"}
    assert not [p for p in sources() if p.stem in vague or p.parent.name in vague]


def test_the_readme_s_tree_is_the_tree() -> None:
    """Every path of the tree exists, and every module and tracked top-level entry is in it."""
    drawn = set(tree_of_readme())
    missing = [path for path in drawn if not (ROOT / path).exists()]
    assert not missing, "drawn in README, not on disk"
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    packages = tuple(f"{package}/" for package in MAY_IMPORT)
    wanted = {
        path
        for path in listed
        if path.startswith(packages)
        and path.endswith(".py")
        and not path.endswith("__init__.py")
        and "/__main__" not in path
    }
    wanted |= {path.partition("/")[0] for path in listed if not path.startswith(".git")}
    assert not sorted(wanted - drawn), "on disk, not drawn in README"


def tree_of_readme() -> Iterator[str]:
    """Paths of the fenced tree: two spaces deeper is one folder deeper, `a · b` are siblings."""
    text = (ROOT / "README.md").read_text("utf-8")
    block = re.search(r"```tree\n(.*?)```", text, re.DOTALL)
    assert block, "README has no ```tree block"
    folders: list[str] = []
    for line in block[1].splitlines():
        if not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.split(r"\s{2,}", line.strip())[0].split(" · ")
        folders = folders[:depth]
        prefix = "".join(folders)
        for name in names:
            yield (prefix + name).rstrip("/")
        if names[0].endswith("/"):
            folders.append(names[0])
