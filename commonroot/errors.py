"""Every error that commonroot raises on purpose.

CommonrootError          exit 1: the work was started and could not be finished
├── TrainingError        training cannot go on: nothing to train on, no room for a checkpoint
│   └── DivergedError    the loss is not a number, or jumped
├── EngineError          a Flower run ended other than `finished:completed`
├── RoundError           no round reached its quorum
├── FetchError           the network or a web server failed
└── UsageError           exit 2: nothing was done; the message says what to change
    ├── ConfigError      unknown key, wrong type, value out of bounds
    ├── ArtifactError    a parent is missing, of another kind, or its bytes changed
    ├── DataError        no usable text, an unreadable file
    └── BusyError        another run holds the folder
"""

__all__ = [
    "ArtifactError",
    "BusyError",
    "CommonrootError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "EngineError",
    "FetchError",
    "RoundError",
    "TrainingError",
    "UsageError",
]


class CommonrootError(Exception):
    """Root of the tree; `str()` is one line that says what to do next."""

    exit_code = 1


class TrainingError(CommonrootError):
    """Training cannot go on."""


class DivergedError(TrainingError):
    """The loss is not a number, or jumped and stayed up."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"step {step}: {what}: lower the lr")
        self.step, self.what = step, what


class EngineError(CommonrootError):
    """A Flower run crashed, was stopped, or never started."""


class RoundError(CommonrootError):
    """Too few valid replies to go on."""


class FetchError(CommonrootError):
    """A page could not be fetched."""


class UsageError(CommonrootError):
    """Wrong call, config or input: nothing was done."""

    exit_code = 2


class ConfigError(UsageError):
    """The configuration is not usable."""


class ArtifactError(UsageError):
    """An artifact is missing, damaged or of another kind."""


class DataError(UsageError):
    """The input data is not usable."""


class BusyError(UsageError):
    """Another process works in this folder."""
