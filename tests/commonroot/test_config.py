from pathlib import Path

import pytest
from pydantic import Field

from commonroot.config import Section, load_tables, parse_section
from commonroot.errors import ConfigError


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
