"""Logs: readable lines on a developer's machine, one JSON object a line elsewhere.

A line is an event name plus fields. The fields that say *what* the line is about (a sandbox, a
request) are its span; the rest are its `fields`. Standard-library loggers, ours and third parties',
go through the same door.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, MutableMapping
from datetime import datetime
from typing import Any, Final, cast

import structlog

from longshore_core._errors import ConfigError
from longshore_core.process.config import REDACTED, nearest

SPAN: Final = frozenset({
    "executor_id", "container_id", "sandbox_id", "namespace", "request_id", "port", "method",
    "path",
})  # fmt: skip
_SECRET: Final = ("token", "password", "secret", "authorization")
_LEVELS: Final = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "off": logging.CRITICAL + 1,
}
_OURS: Final = ("longshore", "longshore_core", "longshore_server")
_ALIASES: Final = {"indexify_dataplane": "longshore_core", "indexify_server": "longshore_server"}


def configure(env: str, environ: Mapping[str, str]) -> None:
    """Set up logging for this process, once, from `env` (`local`: readable) and the environment.

    `LONGSHORE_LOG`, else `RUST_LOG`: `info`, or `info,longshore_core.http_proxy=debug`; Indexify's
    targets name ours. Raises ConfigError for a level that does not exist.
    """
    variable = "LONGSHORE_LOG" if environ.get("LONGSHORE_LOG") else "RUST_LOG"
    levels = parse_filter(environ.get(variable, ""), variable)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets,
    ]
    readable: list[structlog.typing.Processor] = [
        _for_a_person,
        structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(),
            pad_event_to=28,
            # The default, where `rich` is installed, prints every local variable: secrets too.
            exception_formatter=structlog.dev.plain_traceback,
        ),
    ]
    machine: list[structlog.typing.Processor] = [structlog.processors.format_exc_info, _to_json]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *(readable if env == "local" else machine),
        ],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(levels.pop("", logging.INFO), logging.INFO))
    # httpx has a line for each request, which is for nobody unless it is asked for.
    for name, level in ({"httpx": logging.WARNING} | levels).items():
        logging.getLogger(name).setLevel(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def parse_filter(text: str, variable: str) -> dict[str, int]:
    """Levels by logger name from a filter like `info,longshore_core.http_proxy=debug`.

    A bare level is for our own loggers; third parties' stay at INFO unless they are named.
    """
    levels: dict[str, int] = {}
    for directive in filter(None, (part.strip() for part in text.split(","))):
        target, _, level = directive.rpartition("=")
        if level.lower() not in _LEVELS:
            raise ConfigError(variable, f"no log level {level!r}{nearest(level, _LEVELS)}")
        number = _LEVELS[level.lower()]
        if target:
            levels[_logger_name(target)] = number
        else:
            levels |= {"": number} | {name: number for name in _OURS if name not in levels}
    return levels


def _logger_name(target: str) -> str:
    head, *rest = target.replace("::", ".").split(".")
    return ".".join([_ALIASES.get(head, head), *rest])


def _hide_secrets(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name in event:
        if any(word in name.lower() for word in _SECRET):
            event[name] = REDACTED
    return event


def _for_a_person(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """The time of day, and no field that says nothing on a machine of one's own."""
    moment = datetime.fromisoformat(event["timestamp"]).astimezone()
    event.pop("executor_id", None)
    return {**_without_blanks(event), "timestamp": moment.strftime("%H:%M:%S.%f")[:-3]}


def _without_blanks(fields: Mapping[str, Any]) -> dict[str, Any]:
    said = {
        name: _without_blanks(cast("dict[str, Any]", value)) if isinstance(value, dict) else value
        for name, value in fields.items()
    }
    return {name: value for name, value in said.items() if value not in (None, {}, [], ())}


def _to_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    line = {
        "timestamp": event.pop("timestamp", None),
        "level": str(event.pop("level", "info")).upper(),
        "target": event.pop("logger", None),
        "span": {name: event.pop(name) for name in sorted(SPAN & event.keys())},
        "fields": {"message": event.pop("event", ""), **event},
    }
    return json.dumps(line, default=str, ensure_ascii=False)
