import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import Field

from commonroot.config import Section, load_tables, parse_section
from commonroot.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


class Inner(Section):
    steps: int = Field(10, ge=1)


class Outer(Section):
    rounds: int = 3
    local: Inner = Inner()


def parse(tmp_path: Path, toml: str, *overrides: str) -> Outer:
    file = tmp_path / "c.toml"
    file.write_text(toml)
    return parse_section(Outer, "outer", load_tables(file, overrides, ["outer"]))


def test_file_defaults_and_overrides(tmp_path: Path) -> None:
    given = parse(tmp_path, "[outer]\nrounds = 5", "outer.local.steps=7")
    assert (given.rounds, given.local.steps) == (5, 7)


@pytest.mark.parametrize(
    ("toml", "overrides", "message"),
    [
        ("[outer]\nround = 5", [], r"outer\.round; did you mean rounds\?"),
        ("[outer.local]\nstep = 5", [], r"outer\.local\.step; did you mean steps\?"),
        ("[outer.local]\nsteps = 0", [], r"outer\.local\.steps = 0: .*greater than or equal"),
        ("[oter]\nrounds = 5", [], r"\[oter\]; did you mean outer\?"),
        ("outer = 3", [], "must be a table"),
        ("[outer", [], "not valid TOML"),
        ("", ["outer"], r"table\.key=value"),
        ("[outer]\nrounds = 1", ["outer.rounds.deep=2"], "rounds is not a table"),
        ("", ["outer.rounds=many"], r'outer\.rounds = "many"'),
    ],
)
def test_mistakes_get_one_line(
    tmp_path: Path, toml: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        parse(tmp_path, toml, *overrides)
    assert "\n" not in str(raised.value).replace("\n", "", 0)[:200]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read config"):
        load_tables(tmp_path / "none.toml", [], [])


def test_the_reference_in_docs_is_the_one_that_the_models_give() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "commonroot", "config"], capture_output=True, text=True, check=True
    )
    assert done.stdout == (ROOT / "docs" / "config.md").read_text("utf-8"), (
        "commonroot config > docs/config.md"
    )


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.name)
def test_every_shipped_config_is_valid(config: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "commonroot", "release", "--config", config, "--run", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "is missing or unfinished" in done.stderr
