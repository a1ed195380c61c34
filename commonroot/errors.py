"""Every error that commonroot raises on purpose.

CommonrootError          exit 1: the work was started and could not be finished
├── TrainingError        the loss is not a number, nothing to train on
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
