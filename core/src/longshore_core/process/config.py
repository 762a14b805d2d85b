"""Loading a YAML configuration into a pydantic model.

`${VAR}` and `${VAR:-default}` are replaced in scalars after parsing, so that no value can change
the document's structure; any other `$` stands for itself. Every complaint names the YAML path.
"""

from __future__ import annotations

import difflib
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from longshore_core._errors import ConfigError

ModelT = TypeVar("ModelT", bound=BaseModel)
Loc = tuple[int | str, ...]

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_USERINFO: Final = re.compile(r"://[^/@\s]+@")
_SECRET_WORDS: Final = (
    "password", "passwd", "passphrase", "secret", "token", "credential", "authorization",
    "api_key", "apikey", "access_key", "private_key",
)  # fmt: skip
REDACTED: Final = "[redacted]"


def load(model: type[ModelT], file: Path | None, environ: Mapping[str, str]) -> ModelT:
    """Read `file` into `model`; no file gives the model's defaults.

    Raises ConfigError: for what cannot be read or parsed, for all missing variables at once, and
    for all fields that the model refuses, with the nearest match of an unknown key.
    """
    document = {} if file is None else _parse(file)
    return validate(model, _interpolate(document, environ), raw=document)


def load_section(file: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """A file that holds one plugin's section of the configuration. Raises ConfigError."""
    return _interpolate(_parse(file), environ)


def validate(
    model: type[ModelT], data: Mapping[str, Any], *, at: Loc = (), raw: object = None
) -> ModelT:
    """Check `data` against `model`, blaming the YAML path `at` and below.

    `raw` is the document before interpolation: messages quote it, never a resolved variable.
    """
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        complaints = [
            (_dotted((*at, *error["loc"])), _complaint(model, error, raw))
            for error in exc.errors(include_url=False, include_context=False)
        ]
        (path, message), *others = complaints
        more = "".join(f"\n{where}: {what}" for where, what in others)
        raise ConfigError(path, message + more) from None


def redact(model: BaseModel) -> dict[str, Any]:
    """A model as plain data that may be printed: every secret replaced."""
    return {name: _redacted(getattr(model, name)) for name in type(model).model_fields} | {
        name: REDACTED if _smells_secret(name) else _redacted(value)
        for name, value in (model.model_extra or {}).items()
    }


def nearest(word: str, candidates: typing.Iterable[str]) -> str:
    """A hint to append to a complaint about `word`: empty when nothing comes near."""
    close = difflib.get_close_matches(word, list(candidates), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _redacted(value: object) -> object:
    match value:
        case SecretStr():
            return REDACTED
        case BaseModel():
            return redact(value)
        case list() | tuple():
            return [_redacted(item) for item in typing.cast("list[object]", value)]
        case dict():
            items = typing.cast("dict[object, object]", value).items()
            return {
                name: REDACTED if _smells_secret(str(name)) else _redacted(item)
                for name, item in items
            }
        case Path():
            return str(value)
        case str():
            return _USERINFO.sub(f"://{REDACTED}@", value)
        case _:
            return value


def _smells_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_WORDS)


def _parse(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as exc:
        raise ConfigError("", f"cannot read {file}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError("", f"{file} is not UTF-8 text: byte {exc.start} cannot be read") from exc
    try:
        yaml: Any = YAML(typ="safe", pure=True)
        document: object = yaml.load(text)
        # What holds itself, by an alias, has no end to walk to.
        json.dumps(document, default=str)
    except MarkedYAMLError as exc:
        problem: Any = exc
        mark = problem.problem_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise ConfigError("", f"{where}: {' '.join(str(problem.problem).split())}") from exc
    except (YAMLError, ValueError, TypeError, RecursionError) as exc:
        # Beside its own: a date that is none, a structure that holds itself, a key that is a list.
        raise ConfigError("", f"{file}: {exc}") from exc
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError("", f"{file}: expected a mapping of keys, found {_kind(document)}")
    return typing.cast("dict[str, Any]", document)


def _interpolate(document: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    missing: list[str] = []

    def resolve(value: object, path: Loc) -> object:
        match value:
            case str():
                return _VARIABLE.sub(lambda match: lookup(match, path), value)
            case dict():
                items = typing.cast("dict[str, object]", value).items()
                return {key: resolve(item, (*path, str(key))) for key, item in items}
            case list():
                entries = enumerate(typing.cast("list[object]", value))
                return [resolve(item, (*path, index)) for index, item in entries]
            case _:
                return value

    def lookup(match: re.Match[str], path: Loc) -> str:
        name, default = match.groups()
        if name in environ:
            return environ[name]
        if default is None:
            missing.append(f"{name} (at {_dotted(path)})")
            return ""
        return typing.cast(str, default)

    resolved = typing.cast("dict[str, Any]", resolve(document, ()))
    if missing:
        raise ConfigError("", f"environment variables are not set: {', '.join(missing)}")
    return resolved


def _complaint(model: type[BaseModel], error: Mapping[str, Any], raw: object) -> str:
    loc: Loc = error["loc"]
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        owner = _model_at(model, loc[:-1])
        return message + (nearest(str(loc[-1]), owner.model_fields) if owner else "")
    written = _written(raw, loc)
    shown = isinstance(written, str | int | float | bool) and not _smells_secret(_dotted(loc))
    return f"{message} (got {written!r})" if shown else message


def _written(raw: object, loc: Loc) -> object:
    """What the document has at `loc`, before interpolation; `None` when nothing."""
    for step in loc:
        match raw:
            case dict():
                raw = typing.cast("dict[object, object]", raw).get(step)
            case list() if isinstance(step, int) and step < len(typing.cast("list[object]", raw)):
                raw = typing.cast("list[object]", raw)[step]
            case _:
                return None
    return raw


def _model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    for step in loc:
        if isinstance(step, int):
            continue
        field = model.model_fields.get(step)
        inner = next(_models_in(field.annotation), None) if field else None
        if inner is None:
            return None
        model = inner
    return model


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation):
        for argument in typing.get_args(annotation):
            yield from _models_in(argument)


def _dotted(loc: Loc) -> str:
    return ".".join(str(step) for step in loc)


def _kind(value: object) -> str:
    return {"list": "a list", "str": "a text", "int": "a number"}.get(
        type(value).__name__, f"a {type(value).__name__}"
    )
