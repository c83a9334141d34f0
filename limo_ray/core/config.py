"""Configuration: dataclass schemas, whole-file YAML presets, key=value. The only omegaconf user.

`load(Schema, ["conf/curate/laptop.yaml", "seed=3"])` merges schema defaults, files from left to
right, then key=value. Every mistake is one line with the file, the line, the full key and the
value: an unknown key, a wrong type, a missing value, or one that the schema's `check` refuses.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from limo_ray.core.errors import LimoError
from limo_ray.core.text import did_you_mean, first_line
from limo_ray.core.uris import redacted

Schema = TypeVar("Schema")


class ConfigError(LimoError, ValueError):
    """A user's mistake in a preset or on the command line, told in one line."""


def load(schema: type[Schema], argv: list[str], values: dict[str, Any] | None = None) -> Schema:
    """The config that presets and overrides make.

    Args:
        schema: a dataclass; nested dataclasses with a `check()` are asked to refuse their values.
        argv: paths of YAML files and `key.path=value` overrides, in any mixture.
        values: nested, laid over the files, under the overrides: part of another job's config.

    Raises:
        ConfigError: with the one line to show.
    """
    files = [argument for argument in argv if "=" not in argument]
    overrides = [argument for argument in argv if "=" in argument]
    merged = OmegaConf.structured(schema)
    for file in files:
        merged = _merge_file(merged, file)
    if values:
        try:
            merged = OmegaConf.merge(merged, OmegaConf.create(values))
        except OmegaConfBaseException as error:
            raise ConfigError(_explain(error)) from None
    for override in overrides:
        merged = _override(merged, override)
    try:
        config = OmegaConf.to_object(merged)
    except (MissingMandatoryValue, InterpolationResolutionError) as error:
        raise ConfigError(
            f"{error.full_key}: {first_line(getattr(error, 'msg', None) or error)}"
        ) from None
    for path, part in _parts(config, ""):
        check = getattr(part, "check", None)
        if check is not None:
            try:
                check()
            except ValueError as error:
                key = f"{path}.{error}" if path else str(error)
                raise ConfigError(_where(files, overrides, key.partition(": ")[0]) + key) from None
    return config  # type: ignore[return-value]


def as_dict(config: Any) -> dict[str, Any]:
    """The resolved config as plain values, for a manifest: URIs without their credentials."""
    found: dict[str, Any] = redacted(dataclasses.asdict(config))
    return found


def as_yaml(config: Any) -> str:
    """The resolved config as a preset that gives it again."""
    return str(yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True, width=100))


def _merge_file(merged: Any, file: str) -> Any:
    if not Path(file).is_file():
        raise ConfigError(f"{file}: no such preset")
    try:
        part = OmegaConf.load(file)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{file}{line}: not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(part, DictConfig):
        raise ConfigError(f"{file}: must be a mapping of keys to values")
    try:
        return OmegaConf.merge(merged, part)
    except OmegaConfBaseException as error:
        raise ConfigError(_where([file], [], _key(error)) + _explain(error)) from None


def _override(merged: Any, override: str) -> Any:
    key, _, text = override.partition("=")
    try:
        value = yaml.safe_load(text) if text else ""
    except yaml.YAMLError:
        value = text
    try:
        if "[" in key:  # a place in a list, which merging would replace as a whole
            OmegaConf.update(merged, key, value, merge=True, force_add=False)
            return merged
        for name in reversed(key.split(".")):
            value = {name: value}
        return OmegaConf.merge(merged, value)
    except (OmegaConfBaseException, IndexError, TypeError, ValueError) as error:
        where = _key(error) or key
        raise ConfigError(f"{override}: {_explain(error, where)}") from None


def _key(error: Exception) -> str:
    return str(getattr(error, "full_key", "") or "")


def _explain(error: Exception, key: str = "") -> str:
    """`key: what is wrong`, with the nearest known key where the key is unknown."""
    key = _key(error) or key
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        owner: Any = getattr(error, "object_type", None)
        known = [field.name for field in dataclasses.fields(owner)] if _is_schema(owner) else []
        last = key.rpartition(".")[2]
        renamed = getattr(owner, "RENAMED", {}).get(last)
        hint = f": it is called {renamed} now" if renamed else did_you_mean(last, known)
        return f"{key}: unknown key{hint}"
    return f"{key}: {first_line(getattr(error, 'msg', None) or error)}"


def _is_schema(owner: Any) -> bool:
    return isinstance(owner, type) and dataclasses.is_dataclass(owner)


def _where(files: list[str], overrides: list[str], key: str) -> str:
    """`file:line: ` of the last place that sets a key; empty for a schema's default."""
    if any(override.startswith(f"{key}=") for override in overrides):
        return "command line: "
    for file in reversed(files):
        line = _line(yaml.compose(Path(file).read_text()), key.replace("[", ".[").split("."))
        if line:
            return f"{file}:{line}: "
    return f"{files[-1]}: " if len(files) == 1 else ""


def _line(node: Any, keys: list[str]) -> int | None:
    """Line number of the deepest of the nested keys that the YAML node has, if it has the last."""
    line = None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            pairs = [(k, v) for k, v in node.value if k.value == key]
            if not pairs:
                return None
            line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
        elif isinstance(node, yaml.SequenceNode):
            place = int(key.strip("[]"))
            if place >= len(node.value):
                return None
            node = node.value[place]
            line = node.start_mark.line + 1
        else:
            return None
    return line


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All dataclasses inside a config with their key paths, inner ones first."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            below = f"{path}.{field.name}" if path else field.name
            yield from _parts(getattr(value, field.name), below)
        yield path, value
    elif isinstance(value, dict | DictConfig):
        for key, item in value.items():
            yield from _parts(item, path + "." + str(key))
    elif isinstance(value, list | ListConfig):
        for place, item in enumerate(value):
            yield from _parts(item, f"{path}[{place}]")
