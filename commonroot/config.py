"""TOML file + `--set a.b=c` -> one frozen pydantic model a stage."""

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from commonroot.errors import ConfigError

__all__ = ["Section", "Tables", "document", "load_tables", "parse_section"]

Tables = dict[str, dict[str, Any]]


class Section(BaseModel):
    """One [table] of the configuration; subclasses stand beside the code that they configure."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


S = TypeVar("S", bound=Section)


def load_tables(path: Path, overrides: Iterable[str], known: Iterable[str]) -> Tables:
    """Read a TOML file and apply `a.b=value` overrides (value: TOML, or else a plain string).

    Raises ConfigError for an unreadable file, bad TOML, or a table that is not in `known`.
    """
    try:
        tables: Tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    for override in overrides:
        _apply(tables, override)
    for name, table in tables.items():
        if name not in set(known):
            raise ConfigError(f"unknown table [{name}]{_suggest(name, known)}")
        if not isinstance(table, dict):
            raise ConfigError(f"{name} must be a table: write [{name}] on a line of its own")
    return tables


def parse_section(model: type[S], name: str, tables: Tables) -> S:
    """Validate table `name`; the ConfigError names the key, the reason and a near miss."""
    try:
        return model.model_validate(tables.get(name, {}))
    except ValidationError as error:
        raise ConfigError(_explain(model, name, error)) from None


def document(models: Mapping[str, type[Section]]) -> str:
    """The reference of all tables as Markdown, made from the models themselves."""
    head = "# Configuration\n\nEvery key, its default, its bounds; made by `commonroot config`.\n"
    return head + "".join(_document(name, model) for name, model in models.items())


def _document(name: str, model: type[BaseModel]) -> str:
    rows, inner = [], []
    defaults: dict[str, Any] = {}
    for key, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data=defaults)
        defaults[key] = default
        nested, named = _table_of(field.annotation), get_origin(field.annotation) is dict
        if nested:
            inner.append(_document(f"{name}.{key}{'.NAME' if named else ''}", nested))
        if nested and not named:
            continue
        bounds = ", ".join(_bound(rule) for rule in field.metadata)
        text = " ".join((field.description or "").split())
        rows.append(f"| `{key}` | `{json.dumps(default, default=str)}` | {bounds} | {text} |")
    table = "| key | default | bounds | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    return f"\n## [{name}]\n\n" + (table if rows else "") + "".join(inner)


def _table_of(annotation: Any) -> type[BaseModel] | None:
    """The model of a field that is a table, or holds tables under names of the user's own."""
    if get_origin(annotation) is dict:
        annotation = get_args(annotation)[1]
    is_table = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_table else None


def _bound(rule: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "pattern": "like"}
    given = ((signs[key], getattr(rule, key, None)) for key in signs)
    said = " ".join(f"{sign} {value}" for sign, value in given if value is not None)
    return said.replace("|", "\\|")


def _apply(tables: Tables, override: str) -> None:
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise ConfigError(f"--set {override!r}: write it as table.key=value")
    node: dict[str, Any] = tables
    for key in keys[:-1]:
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override!r}: {key} is not a table")
    node[keys[-1]] = _value(text.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(model: type[Section], name: str, error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join([name, *(str(part) for part in first["loc"])])
    if first["type"] == "extra_forbidden":
        fields = _fields_at(model, first["loc"][:-1])
        return f"unknown config key {where}{_suggest(str(first['loc'][-1]), fields)}"
    given = json.dumps(first.get("input"), default=str)
    return f"config {where} = {given[:80]}: {first['msg']}"


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    for part in loc:
        field = model.model_fields.get(str(part))
        model = (_table_of(field.annotation) if field else None) or model
    return list(model.model_fields)


def _suggest(word: str, choices: Iterable[str]) -> str:
    choices = list(choices)
    near = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(choices)}"
