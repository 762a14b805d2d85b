"""What `longshore up` runs: the configurations that it derives, the ports, the data directory.

A derived file is the user's own, plus what a system on one machine wants where the user's file says
nothing: everything on the loopback interface, all state under one directory, and sandboxes that end
with the worker. It is written as JSON, which is YAML too; `${VARIABLE}`s stay unresolved in it, so
that no secret from the environment reaches the disk.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from longshore._refusal import Refusal

LOOPBACK: Final = "127.0.0.1"
DEFAULT_PROXY_PORT: Final = 8095
DATA_DIR: Final = ".longshore"
"""Where `longshore up` keeps its state, unless told otherwise."""
CORES_OFFERED_PER_CORE: Final = 16
"""Sandboxes share the host's cores: a core promised is not a core used up."""
TENSORLAKE_PORT: Final = 9443
"""Where Tensorlake's clients look for a proxy on localhost, whatever the server tells them."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The ports that the command line asks for; `None` leaves one to the configuration."""

    http: int | None = None
    grpc: int | None = None
    proxy: int | None = None
    monitoring: int | None = None
    extra: tuple[int, ...] = ()
    """The proxy's further ports when it is on its usual one, and the configuration names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One address that the system will listen on, and where to change it."""

    host: str
    port: int
    key: str

    @property
    def address(self) -> str:
        """Where this machine reaches it."""
        return f"{LOOPBACK if self.host in ('0.0.0.0', '::', '') else self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Both derived configurations, and every address in them."""

    http: Listener
    grpc: Listener
    proxy: Listener
    monitoring: Listener
    server: Document = field(repr=False)
    worker: Document = field(repr=False)

    @property
    def listeners(self) -> tuple[Listener, ...]:
        return (self.http, self.grpc, self.proxy, self.monitoring)


def with_driver(worker: Document, name: str | None) -> Document:
    """The worker's configuration with the driver that the command line asks for. Its options stay
    when the configuration names the same one. Raises Refusal for a section that is no mapping."""
    if name is None:
        return worker
    section = _mapping(worker, "driver")
    kept = section if section.get("type") == name else {}
    return {**worker, "driver": {**kept, "type": name}}


def plan(worker: Document, server: Document, ports: Ports, data_dir: Path) -> Plan:
    """Derive both configurations from the user's. Raises Refusal for an unusable address."""
    http = _endpoint(server, "listen_addr", "--port-http", ports.http, 8900)
    grpc = _endpoint(server, "listen_addr_grpc", "--port-grpc", ports.grpc, 8901)
    proxy = _section(worker, "http_proxy", "--port-proxy", ports.proxy, DEFAULT_PROXY_PORT)
    monitoring = _section(worker, "monitoring", "--port-monitoring", ports.monitoring, 8100)
    extra = ports.extra if proxy.port == DEFAULT_PROXY_PORT else ()
    return Plan(
        http=http,
        grpc=grpc,
        proxy=proxy,
        monitoring=monitoring,
        server={
            "state_store_path": str(data_dir / "server" / "state"),
            "blob_storage": {"path": (data_dir / "server" / "blobs").as_uri()},
            **server,
            "listen_addr": f"{http.host}:{http.port}",
            "listen_addr_grpc": f"{grpc.host}:{grpc.port}",
        },
        worker=_worker(worker, data_dir, extra, grpc=grpc, proxy=proxy, monitoring=monitoring),
    )


def _worker(
    given: Document,
    data_dir: Path,
    extra_ports: tuple[int, ...],
    *,
    grpc: Listener,
    proxy: Listener,
    monitoring: Listener,
) -> Document:
    cores = (os.cpu_count() or 1) * CORES_OFFERED_PER_CORE
    derived: Document = {
        "server_addr": f"http://{grpc.address}",
        "state_dir": str(data_dir / "worker"),
        "on_exit": "remove",
        **given,
        "http_proxy": {
            "advertise_address": proxy.address,
            **({"extra_ports": list(extra_ports)} if extra_ports else {}),
            **_mapping(given, "http_proxy"),
            "listen_addr": proxy.host,
            "port": proxy.port,
        },
        "monitoring": _mapping(given, "monitoring")
        | {"listen_addr": monitoring.host, "port": monitoring.port},
        "resource_overrides": {"cpu_count": cores} | _mapping(given, "resource_overrides"),
    }
    drivers = [_mapping(given, key) for key in ("driver", "function_driver", "sandbox_driver")]
    if not any(drivers):
        derived["driver"] = {"type": "fork_exec"}
    return derived


def _endpoint(
    document: Document, key: str, option: str, asked: int | None, default: int
) -> Listener:
    written = str(document.get(key, f"{LOOPBACK}:{default}"))
    host, _, port = written.rpartition(":")
    return _listener(host.strip("[]"), asked or port, f"{option}, or {key} in the server's config")


def _section(
    document: Document, key: str, option: str, asked: int | None, default: int
) -> Listener:
    section = _mapping(document, key)
    hint = f"{option}, or {key}.port in the worker's config"
    return _listener(
        str(section.get("listen_addr", LOOPBACK)), asked or section.get("port", default), hint
    )


def _listener(host: str, port: object, key: str) -> Listener:
    if not str(port).isdecimal() or not 0 < int(str(port)) < 65536:
        raise Refusal(f"{port!r} is not a port that can be listened on; set {key}")
    return Listener(host=host, port=int(str(port)), key=key)


def _mapping(document: Document, key: str) -> Document:
    """The section `key`, empty when there is none. Raises Refusal for what is no mapping."""
    section = document.get(key)
    if section is not None and not isinstance(section, dict):
        raise Refusal(f"{key}: expected a mapping of keys (got {section!r})")
    return dict(cast("Document", section or {}))


def read(file: Path | None) -> Document:
    """The user's YAML as it is written. Raises Refusal for what is no mapping of keys."""
    if file is None:
        return {}
    # Only a system that is given a file needs the parser, which comes with the worker.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        parser: Any = YAML(typ="safe", pure=True)
        document: object = parser.load(file.read_text(encoding="utf-8"))
        # It is passed on as JSON, which knows no circles, and no keys but text.
        json.dumps(document, default=str)
    except (OSError, ValueError, TypeError, RecursionError, YAMLError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else " ".join(str(exc).split())
        raise Refusal(f"cannot read {file}: {reason}") from exc
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise Refusal(f"{file}: expected a mapping of keys")
    return cast("Document", document)


def write(file: Path, document: Mapping[str, Any]) -> None:
    """Write a derived configuration, for this user's eyes only."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as stream:
        # The mode above is for a file that is new.
        os.fchmod(descriptor, 0o600)
        json.dump(document, stream, indent=2, default=str)
        stream.write("\n")


@contextmanager
def claimed(data_dir: Path) -> Generator[None]:
    """Hold the data directory for one `longshore up`. Raises Refusal when another has it."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        message = f"cannot use the data directory {data_dir}: {exc.strerror}; set --data-dir"
        raise Refusal(message) from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
            message = f"{data_dir} is in use by another `longshore up` (process {holder})"
            raise Refusal(f"{message}; stop that one, or give another --data-dir") from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        # The file stays: to remove it would let two processes hold two files of one name.
        os.close(descriptor)


def is_free(port: int) -> bool:
    """Whether the port can be listened on, on the loopback interface."""
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError:
        return False
    return True


def running_api(directory: Path) -> str | None:
    """The API of a `longshore up` that runs in this directory or the nearest one above it."""
    for place in (parent / DATA_DIR for parent in (directory, *directory.parents)):
        try:
            mine = place.stat().st_uid == os.geteuid()
            if mine and _is_claimed(place):
                document: Document = json.loads((place / "server.yaml").read_text(encoding="utf-8"))
                http = _endpoint(document, "listen_addr", "--port-http", None, 8900)
                return f"http://{http.address}"
        except (OSError, ValueError):
            # None here, or one that is just starting.
            continue
    return None


def _is_claimed(data_dir: Path) -> bool:
    descriptor = os.open(data_dir / "up.lock", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def check_free(listeners: tuple[Listener, ...]) -> None:
    """Raise Refusal for every address that cannot be listened on, all in one."""
    problems = list[str]()
    for listener in listeners:
        family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As a server would: connections of a former process that linger are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((listener.host, listener.port))
                probe.listen()
            except OSError as exc:
                in_use = exc.errno == errno.EADDRINUSE
                reason = "is in use" if in_use else f"cannot be listened on ({exc.strerror})"
                problems.append(f"port {listener.port} {reason}; change it with {listener.key}")
    if problems:
        raise Refusal("\nerror: ".join(problems))
