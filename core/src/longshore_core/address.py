"""Where an engine listens, as operators write it: `driver.address`.

For the config models of drivers: a field of type `EngineAddress | None` takes `unix:///run/x.sock`,
a bare path, or `tcp://host:port`; absent, the driver looks where its engine usually is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import BeforeValidator


@dataclass(frozen=True, slots=True)
class UnixAddress:
    path: str

    def __str__(self) -> str:
        return f"unix://{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


def parse_address(text: object) -> UnixAddress | TcpAddress:
    """Read an address. Raises ValueError, which a config model turns into a ConfigError."""
    if isinstance(text, UnixAddress | TcpAddress):
        return text
    if not isinstance(text, str) or not text:
        raise ValueError("must be unix:///path, tcp://host:port or a path")
    if text.startswith("unix://") or "://" not in text:
        path = text.removeprefix("unix://")
        if not path.startswith("/"):
            raise ValueError(f"{text!r} is no absolute path; write unix:///run/engine.sock")
        return UnixAddress(path)
    url = urlsplit(text)
    if url.scheme != "tcp":
        raise ValueError(f"{text!r} has the scheme {url.scheme!r}; there are unix:// and tcp://")
    try:
        port = url.port
    except ValueError as exc:
        raise ValueError(f"{text!r} has no port from 1 to 65535") from exc
    if not url.hostname or not port or url.path or url.query or url.username:
        raise ValueError(f"{text!r} must be tcp://host:port and nothing more")
    return TcpAddress(url.hostname, port)


EngineAddress: TypeAlias = Annotated[UnixAddress | TcpAddress, BeforeValidator(parse_address)]
