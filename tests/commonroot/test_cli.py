import resource
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "commonroot"]


def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, args)], capture_output=True, text=True, check=False)


def test_help_loads_nothing_heavy() -> None:
    probe = (
        "import sys; sys.argv=['commonroot','--help']\n"
        "from commonroot.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch','transformers','flwr','datasets','matplotlib','requests'}"
        " & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "federate" in done.stdout
    assert done.stderr.strip() == "[]"
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime > 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "--config", "none.toml"], "cannot read config none.toml"),
        (["run", "--set", "federate.round=3"], "did you mean rounds?"),
        (["pretrain", "--set", "pretrian.tokens=3"], "did you mean pretrain?"),
        (["pretrain", "--run", "nowhere"], "2-corpus is missing or unfinished"),
        (["verify", "nowhere"], "nowhere"),
        (["report", "--run", "nowhere"], "no run in nowhere"),
        (["generate", "Hi", "--run", "nowhere"], "7-release is missing"),
        (["sprout"], "No such command"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(
    args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "configs" / "demo.toml"
    config.parent.mkdir()
    config.write_text("")
    monkeypatch.chdir(tmp_path)
    done = run(*args)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
