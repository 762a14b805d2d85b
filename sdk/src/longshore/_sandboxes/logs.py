"""`longshore sandbox logs`."""

from __future__ import annotations

import shlex

import anyio
import click

from longshore._async_sandbox import AsyncSandbox
from longshore._errors import ProcessNotFoundError
from longshore._model import ProcessInfo
from longshore._sandboxes import console
from longshore._sandboxes.options import Place, place_options, sandbox_argument
from longshore._sandboxes.plain import plain


@click.command()
@sandbox_argument
@click.argument("process", required=False, metavar="[PROCESS]")
@click.option("-a", "--all", "everything", is_flag=True, help="Those that have ended, too.")
@click.option("-f", "--follow", is_flag=True, help="Go on until it has ended.")
@place_options
def command(
    place: Place, sandbox: str, process: str | None, everything: bool, follow: bool
) -> None:
    """Show what the processes of a sandbox have written.

    PROCESS is a pid, or a name. Without one, all that run are shown, or when none does, the last
    that did; where another begins to speak, a line says which. A single one comes byte for byte.

    \b
    Examples:
      longshore sandbox logs SANDBOX
      longshore sandbox logs -f SANDBOX web
      longshore sandbox logs SANDBOX 17 2>errors.txt
    """

    async def shown() -> None:
        async with AsyncSandbox.attach(sandbox, **place.endpoint) as found:
            processes = await found.processes()
            if process is None:
                running = processes if everything else [one for one in processes if one.running]
                chosen = list(running or processes[-1:])
            else:
                chosen = [_named(process, processes, found.id)]
            await _Printer(found, several=len(chosen) > 1, follow=follow).show(chosen)

    anyio.run(shown)


def _named(wanted: str, processes: tuple[ProcessInfo, ...], sandbox_id: str) -> ProcessInfo:
    """Raises ProcessNotFoundError."""
    found = [one for one in processes if wanted in (str(one.pid), one.name)]
    if not found:
        message = f"no process {wanted!r} in the sandbox; see `longshore sandbox show {sandbox_id}`"
        raise ProcessNotFoundError("NOT_FOUND", message, sandbox_id=sandbox_id, phase="logs")
    # A name means the last that was started under it.
    return found[-1]


class _Printer:
    """What several processes write, one after the other, or as it comes."""

    def __init__(self, sandbox: AsyncSandbox, *, several: bool, follow: bool) -> None:
        self._sandbox = sandbox
        self._several = several
        self._follow = follow
        self._turn = anyio.Lock()
        self._last: int | None = None

    async def show(self, processes: list[ProcessInfo]) -> None:
        ended = [one for one in processes if not one.running or not self._follow]
        for process in ended:
            await self._show(process)
        async with anyio.create_task_group() as tasks:
            for process in processes:
                if process not in ended:
                    tasks.start_soon(self._show, process)

    async def _show(self, process: ProcessInfo) -> None:
        rests = {"stdout": b"", "stderr": b""}
        async with self._sandbox.process(process.pid).connect(follow=self._follow) as output:
            async for chunk in output:
                console.warn_of_gap(chunk)
                data, rest = rests[chunk.stream] + chunk.data, b""
                if self._several:
                    # Whoever else speaks does not do so in the middle of a line.
                    data, newline, rest = data.rpartition(b"\n")
                    data += newline
                rests[chunk.stream] = rest
                await self._print(process, chunk.stream, data)
            console.warn_of_loss(output)
        for stream, rest in rests.items():
            await self._print(process, stream, rest and rest + b"\n")

    async def _print(self, process: ProcessInfo, stream: str, data: bytes) -> None:
        if not data:
            return
        async with self._turn:
            if self._several and self._last != process.pid:
                head = _head(process) if self._last is None else f"\n{_head(process)}"
                await console.write(console.STDOUT, head.encode())
                self._last = process.pid
            await console.write(console.STDOUT if stream == "stdout" else console.STDERR, data)


def _head(process: ProcessInfo) -> str:
    name = f" {process.name}" if process.name else ""
    return plain(f"==> {process.pid}{name}: {shlex.join(process.command)} <==") + "\n"
