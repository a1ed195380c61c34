"""A strategy by its name in the config, its options checked against what its class takes."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from commonroot.errors import ConfigError
from commonroot.plugins import load_plugin
from federate.local import Weights
from federate.strategies.fedavg import FedAvg
from federate.strategies.flower import PREFIX, FlowerStrategy, flower_options

__all__ = ["load_strategy"]

GROUP = "commonroot.strategies"
GIVEN = ("self", "weights", "server_lr", "clients", "scale")
"""Arguments that the rounds fill in, not [federate.strategy_options]."""


def load_strategy(
    name: str,
    weights: Weights,
    server_lr: float | None,
    options: Mapping[str, Any],
    clients: int,
    scale: float = 2.0,
) -> FedAvg:
    """Make strategy `name`: an entry point of group commonroot.strategies, or `flwr:Name`.

    `server_lr` None leaves the strategy's own default. `clients`, the size of the population, and
    `scale`, that of the LoRA layers, go to a class that takes them. An option is checked against
    the annotation of its argument (pydantic, bounds included). Raises ConfigError that names the
    options there are.
    """
    given: dict[str, Any] = {} if server_lr is None else {"server_lr": server_lr}
    make: Callable[..., FedAvg]
    hints: Mapping[str, Any] = {}
    if name.startswith(PREFIX):
        kind = name.removeprefix(PREFIX)
        make, takes = partial(FlowerStrategy, name=kind), flower_options(kind)
    else:
        make = load_plugin(GROUP, name)
        takes, hints = dict(inspect.signature(make).parameters), _hints(make)
    given |= {key: value for key, value in (("clients", clients), ("scale", scale)) if key in takes}
    checked = _check(name, options, takes, hints)
    try:
        return make(weights, **given, **checked)
    except ValueError as error:
        raise ConfigError(f"strategy {name}: {error}") from None


def _check(
    name: str,
    options: Mapping[str, Any],
    takes: Mapping[str, inspect.Parameter],
    hints: Mapping[str, Any],
) -> dict[str, Any]:
    """The options as the class wants them (an int for a float is made one)."""
    named = {k: p for k, p in takes.items() if k not in GIVEN and p.kind not in _VARIADIC}
    for key in options:
        if key not in named and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            known = ", ".join(sorted(named)) or "none"
            raise ConfigError(f"strategy {name} has no option {key!r}; its options: {known}")
    fields: dict[str, Any] = {
        key: (hints.get(key, _annotation(p)), ... if p.default is p.empty else p.default)
        for key, p in named.items()
    }
    try:
        model = _model(fields).model_validate(dict(options), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"federate.strategy_options.{where}: {first['msg']}") from None
    return {key: getattr(model, key) for key in named} | {
        key: value for key, value in options.items() if key not in named
    }


_VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _model(fields: dict[str, Any]) -> type[BaseModel]:
    return create_model("Options", __config__=ConfigDict(arbitrary_types_allowed=True), **fields)


def _annotation(parameter: inspect.Parameter) -> Any:
    plain = isinstance(parameter.annotation, type) and parameter.annotation is not parameter.empty
    return parameter.annotation if plain else Any


def _hints(make: Callable[..., Any]) -> dict[str, Any]:
    """Annotations with their bounds; none if another package's cannot be resolved."""
    try:
        return get_type_hints(make.__init__ if inspect.isclass(make) else make, include_extras=True)
    except (NameError, TypeError):
        return {}
