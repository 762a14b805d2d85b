"""`longshore sandbox port`."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, Final

import anyio
import click
from anyio.abc import Listener, SocketAttribute, SocketStream

from longshore._async_inside_channels import AsyncTunnel
from longshore._async_sandbox import AsyncSandbox
from longshore._errors import SandboxError, SandboxNotFoundError, SandboxTerminatedError
from longshore._refusal import Refusal
from longshore._sandboxes.complaint import first
from longshore._sandboxes.options import Place, place_options, sandbox_argument
from longshore._sandboxes.plain import plain

_LAST_WORDS_SECONDS: Final = 5.0
"""How long a client that has finished sending may wait for an answer that does not begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A port of this machine, and one of the sandbox."""

    local: int
    """0: any that is free."""
    remote: int


class ForwardType(click.ParamType[Forward]):
    """`[LOCAL:]REMOTE`; nothing before the colon means any free port."""

    name = "[LOCAL:]REMOTE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Forward:
        local, colon, remote = str(value).rpartition(":")
        numbers = ((local or "0") if colon else remote, remote)
        if not all(text.isascii() and text.isdecimal() for text in numbers):
            self.fail(f"{value!r} is not [LOCAL:]REMOTE, such as 8080 or 3000:8080", param, ctx)
        forward = Forward(local=int(numbers[0]), remote=int(numbers[1]))
        if not (forward.local < 65536 and 0 < forward.remote < 65536):
            self.fail(f"{value!r}: a port is a number from 1 to 65535", param, ctx)
        return forward


@click.command()
@sandbox_argument
@click.argument("ports", nargs=-1, required=True, type=ForwardType())
@click.option("--address", default="127.0.0.1", show_default=True, help="Where to listen.")
@place_options
def command(place: Place, sandbox: str, ports: tuple[Forward, ...], address: str) -> None:
    """Forward ports of this machine to those of a sandbox, until Ctrl-C.

    Any TCP passes. Programs inside need listen on no more than their loopback interface.

    \b
    Examples:
      longshore sandbox port SANDBOX 8080
      longshore sandbox port SANDBOX 15432:5432 6379
      longshore sandbox port SANDBOX :8080        any free port here
    """

    async def forward() -> None:
        async with (
            AsyncSandbox.attach(sandbox, **place.endpoint) as found,
            AsyncExitStack() as opened,
        ):
            listeners = [
                await opened.enter_async_context(await _listen(address, port.local))
                for port in ports
            ]
            async with anyio.create_task_group() as tasks:
                for port, listener in zip(ports, listeners, strict=True):
                    local = listener.extra(SocketAttribute.local_port)
                    click.echo(f"{address}:{local} -> {port.remote}")
                    tasks.start_soon(listener.serve, partial(_carry, found, port.remote))

    try:
        anyio.run(forward)
    except KeyboardInterrupt:
        # It is how this command ends.
        return


async def _listen(address: str, port: int) -> Listener[SocketStream]:
    """Raises Refusal."""
    try:
        multi = await anyio.create_tcp_listener(local_host=address, local_port=port)
    except OSError as exc:
        why = exc.strerror or str(exc)
        message = f"cannot listen on {address}:{port}: {why}; name another with LOCAL:REMOTE"
        raise Refusal(message) from exc
    listener, *others = multi.listeners
    for other in others:
        await other.aclose()
    return listener


async def _carry(sandbox: AsyncSandbox, port: int, client: SocketStream) -> None:
    """One connection. Its failure is its own, unless the sandbox has ended."""
    errors = list[SandboxError]()
    async with client:
        try:
            async with sandbox.tunnel(port) as tunnel:
                await _join(client, tunnel)
        except* SandboxError as group:
            errors.append(first(group))
    for error in errors:
        if isinstance(error, SandboxTerminatedError | SandboxNotFoundError):
            raise error
        click.echo(plain(f"{port}: {error.message}"), err=True)


async def _join(client: SocketStream, tunnel: AsyncTunnel) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_send, client, tunnel, tasks.cancel_scope)
        async for data in tunnel:
            # Somebody answers: who has finished sending may wait for as long as that takes.
            tasks.cancel_scope.deadline = inf
            try:
                await client.send(data)
            except anyio.BrokenResourceError:
                # Whoever asked does not wait for it.
                break
        tasks.cancel_scope.cancel()


async def _send(client: SocketStream, tunnel: AsyncTunnel, scope: anyio.CancelScope) -> None:
    # What breaks in the tunnel, its reader is told as well.
    with suppress(anyio.BrokenResourceError, SandboxError):
        async for data in client:
            await tunnel.write(data)
    # A tunnel ends as a whole, and a client that has said all may still listen.
    scope.deadline = anyio.current_time() + _LAST_WORDS_SECONDS
