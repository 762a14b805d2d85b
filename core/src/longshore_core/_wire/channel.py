"""A gRPC channel to the server, with keepalive, limits, and TLS where the config asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import grpc
from grpc import aio

from longshore_core._errors import ConfigError
from longshore_core._settings import Tls

MESSAGE_LIMIT: Final = 32 << 20
_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    # A path that silently drops packets is noticed within half a minute, idle or not.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A server that comes up is found at once: heartbeats do the backing off.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),
)


def open_channel(server_addr: str, tls: Tls) -> aio.Channel:
    """A channel that connects when it is first used. The caller closes it.

    Raises ConfigError for an address without a host, and for files that cannot be read.
    """
    address = urlsplit(server_addr)
    try:
        host, port = address.hostname, address.port
    except ValueError as exc:
        raise ConfigError("server_addr", f"{server_addr!r}: {exc}") from exc
    if not host:
        raise ConfigError("server_addr", f"{server_addr!r} names no host")
    secure = tls.enabled or address.scheme == "https"
    bracketed = f"[{host}]" if ":" in host else host
    target = f"{bracketed}:{port or (443 if secure else 80)}"
    if not secure:
        return aio.insecure_channel(target, options=_OPTIONS)
    options = _OPTIONS
    if tls.domain_name:
        options = (*options, ("grpc.ssl_target_name_override", tls.domain_name))
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_read(tls.ca_cert_path, "tls.ca_cert_path"),
        private_key=_read(tls.client_key_path, "tls.client_key_path"),
        certificate_chain=_read(tls.client_cert_path, "tls.client_cert_path"),
    )
    return aio.secure_channel(target, credentials, options=options)


def _read(file: Path | None, path: str) -> bytes | None:
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as exc:
        raise ConfigError(path, f"cannot read {file}: {exc.strerror}") from exc
