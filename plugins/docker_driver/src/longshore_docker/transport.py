"""The SDK's way over a Unix socket, but for the socket that it leaves open when nobody listens, and
the pools of connections that it closes under who is about to use them."""

from __future__ import annotations

import socket
from typing import Any, Final, cast

from docker.transport import unixconn
from longshore_core.address import TcpAddress, UnixAddress

_SCHEME: Final = "http+docker://"


class _Connection(unixconn.UnixHTTPConnection):  # type: ignore[misc]  # untyped
    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(cast("Any", self).timeout)
            sock.connect(cast("Any", self).unix_socket)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class _Pool(unixconn.UnixHTTPConnectionPool):  # type: ignore[misc]  # untyped
    def _new_conn(self) -> Any:
        own = cast("Any", self)
        return cast("Any", _Connection)(own.base_url, own.socket_path, own.timeout)


class _Adapter(unixconn.UnixHTTPAdapter):  # type: ignore[misc]  # untyped
    def get_connection(self, url: Any, proxies: Any = None) -> Any:
        own = cast("Any", self)
        with own.pools.lock:
            # One, for the one engine: of one a URL, the 26th closes the first, in use or not.
            if own.pools.get(_SCHEME) is None:
                make = cast("Any", _Pool)
                rest = {"timeout": own.timeout, "maxsize": own.max_pool_size}
                own.pools[_SCHEME] = make(_SCHEME, own.socket_path, **rest)
            return own.pools[_SCHEME]


def mount(client: Any, address: UnixAddress | TcpAddress, seconds: float, connections: int) -> None:
    """Have an `APIClient` of an engine on this host go this way from now on."""
    if isinstance(address, UnixAddress):
        adapter = cast("Any", _Adapter)(address.path, seconds, max_pool_size=connections)
        # It may have asked for a version by its own, and kept that connection.
        client.get_adapter(_SCHEME).close()
        client.mount(_SCHEME, adapter)
