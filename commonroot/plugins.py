"""What other packages may add, by entry point: federated strategies (`commonroot.strategies`)."""

from importlib.metadata import entry_points
from typing import Any

from commonroot.errors import ConfigError

__all__ = ["load_plugin"]


def load_plugin(group: str, name: str) -> Any:
    """The object that an installed package offers as `name` in entry-point group `group`."""
    found = {point.name: point for point in entry_points(group=group)}
    if name not in found:
        raise ConfigError(f"no {group} named {name!r}; installed: {', '.join(sorted(found))}")
    return found[name].load()
