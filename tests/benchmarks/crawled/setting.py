"""Where a benchmark works, and the environment of those that it is measured against."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OTHERS", "Setting"]

OTHERS = ("Scrapy==2.19.0", "Protego==0.7.0")


@dataclass(frozen=True)
class Setting:
    """Folders, and whether the sizes are to be small."""

    work: Path
    data: Path | None
    quick: bool

    def folder(self, name: str) -> Path:
        """A folder below `work`, made if it is not there."""
        path = self.work / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def others(self) -> Path:
        """A Python that has the other tools; installs them once."""
        python = self.work / "others" / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", self.work / "others"], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *OTHERS], check=True)
        return python
