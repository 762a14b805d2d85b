"""Reaching into a container whose guest listens on Unix sockets.

The guest keeps two stream sockets in its directory: `control.sock` for the worker and the proxy,
`http.sock` for the API that users call. On the control socket, a request is one line of JSON with
an `op`, and so is its answer, which has `ok`; an answer to `dial` carries one connected socket as
ancillary data (SCM_RIGHTS). `docs/protocols.md` has the whole of it.

Whatever runs in the container can write to that directory. So a socket is opened without following
links and connected to through its descriptor, and a socket that is handed out must be of TCP.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import stat
from collections.abc import Mapping
from typing import Final, cast

import anyio

from longshore_core._errors import GuestError, UnsupportedCapability
from longshore_core._model import JSON, Reach, UnixReach

CONTROL: Final = "control.sock"
HTTP: Final = "http.sock"
PROTOCOL: Final = 1
_LINE_LIMIT: Final = 1 << 20
_DESCRIPTORS: Final = 1
"""That come with one answer: more would let a guest use up the process's own."""


class DialError(GuestError):
    """A port inside the container cannot be connected to. `reason` is the guest's code for it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def connect(reach: Reach, name: str) -> socket.socket:
    """Connect to the guest's Unix socket `name`; the answer is a non-blocking socket.

    Raises GuestError when there is none, or what is there is no socket.
    """
    if not isinstance(reach, UnixReach):
        raise UnsupportedCapability("a guest can be reached over Unix sockets only")
    try:
        directory = os.open(reach.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise GuestError(f"cannot enter {reach.path}: {exc.strerror}", retryable=True) from exc
    try:
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        node = os.open(name, flags, dir_fd=directory)
    except OSError as exc:
        raise GuestError(f"no {name} in {reach.path}: {exc.strerror}", retryable=True) from exc
    finally:
        os.close(directory)
    try:
        if not stat.S_ISSOCK(os.fstat(node).st_mode):
            raise GuestError(f"{name} in {reach.path} is not a socket")
        return await _connect_node(node, f"{reach.path}/{name}")
    finally:
        os.close(node)


async def _connect_node(node: int, shown: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        while True:
            try:
                sock.connect(f"/proc/self/fd/{node}")
            except BlockingIOError:
                # The guest's backlog is full: there is nothing to wait on but time.
                await anyio.sleep(0.005)
            else:
                return sock
    except OSError as exc:
        sock.close()
        raise GuestError(f"cannot connect to {shown}: {exc.strerror}", retryable=True) from exc
    except BaseException:
        sock.close()
        raise


async def call(
    sock: socket.socket, op: str, fields: Mapping[str, JSON] | None = None
) -> tuple[dict[str, JSON], list[int]]:
    """One request on a control socket: its answer, and the descriptors that came with it.

    The caller sets the deadline, and owns the descriptors. Raises GuestError when the guest goes
    away or does not speak the protocol; never for an answer whose `ok` is false.
    """
    await _send(sock, json.dumps({"v": PROTOCOL, "op": op, **(fields or {})}).encode() + b"\n")
    received, descriptors = bytearray(), list[int]()
    try:
        while not received.endswith(b"\n"):
            await anyio.wait_readable(sock)
            with contextlib.suppress(BlockingIOError):
                data, flags = _receive(sock, descriptors)
                received += data
                if len(descriptors) > _DESCRIPTORS or flags & socket.MSG_CTRUNC:
                    raise GuestError(f"the guest sent too many descriptors in answer to {op}")
                if not data or len(received) > _LINE_LIMIT:
                    raise GuestError(f"the guest broke off its answer to {op}", retryable=True)
        answer: object = json.loads(received)
        if not isinstance(answer, dict):
            raise GuestError(f"the guest's answer to {op} is not an object")
    except (OSError, ValueError, RecursionError) as exc:
        _close(descriptors)
        raise GuestError(f"the guest's answer to {op} cannot be read: {exc}") from exc
    except BaseException:
        _close(descriptors)
        raise
    return cast("dict[str, JSON]", answer), descriptors


async def dial(reach: Reach, port: int) -> socket.socket:
    """Connect to a TCP port on the container's own loopback.

    Returns a non-blocking TCP socket. Raises DialError when nothing listens there, GuestError when
    the guest cannot be asked.
    """
    control = await connect(reach, CONTROL)
    try:
        answer, descriptors = await call(control, "dial", {"port": port})
    finally:
        control.close()
    if not answer.get("ok") or len(descriptors) != 1:
        _close(descriptors)
        reason = str(answer.get("code", "PROTOCOL_ERROR"))
        raise DialError(reason, str(answer.get("error", f"port {port} was not handed out")))
    return _tcp_socket(descriptors[0], port)


def _tcp_socket(descriptor: int, port: int) -> socket.socket:
    """Take over what a guest has handed out for a port, if it is a connected TCP socket."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as exc:
        os.close(descriptor)
        raise GuestError(f"the guest handed out no socket for port {port}") from exc
    try:
        internet = sock.family in (socket.AF_INET, socket.AF_INET6)
        if not internet or sock.type != socket.SOCK_STREAM or sock.proto != socket.IPPROTO_TCP:
            message = "the guest handed out something other than a TCP socket"
            raise GuestError(f"{message} for port {port}")
        sock.getpeername()
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise GuestError(f"the socket for port {port} is not connected") from exc
    except BaseException:
        sock.close()
        raise
    return sock


def _receive(sock: socket.socket, descriptors: list[int]) -> tuple[bytes, int]:
    """What has arrived; descriptors with it are added, and no child inherits them.

    `socket.recv_fds` would let children: it does not pass the flag on.
    """
    space = socket.CMSG_SPACE(4 * array.array("i").itemsize)
    data, ancillary, flags, _ = sock.recvmsg(65536, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received = array.array("i")
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
            descriptors += received
    return data, flags


async def _send(sock: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view) :]
        except BlockingIOError:
            await anyio.wait_writable(sock)
        except OSError as exc:
            raise GuestError(f"the guest went away: {exc.strerror}", retryable=True) from exc


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
