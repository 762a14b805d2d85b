"""`longshore sandbox logs`."""

from __future__ import annotations

import shlex

import anyio
import click

from longshore._async_sandbox import AsyncSandbox
from longshore._errors import ProcessNotFoundError
from longshore._model import Chunk, ProcessInfo
from longshore._sandboxes import console
from longshore._sandboxes.options import Place, place_options, sandbox_argument


@click.command()
@sandbox_argument
@click.argument("process", required=False, metavar="[PROCESS]")
@click.option("-f", "--follow", is_flag=True, help="Go on until it has ended.")
@place_options
def command(place: Place, sandbox: str, process: str | None, follow: bool) -> None:
    """Show what the processes of a sandbox have written.

    PROCESS is a pid, or a name. Without one, all are shown, the oldest first; where another begins
    to speak, a line says which. A single process comes byte for byte.

    \b
    Examples:
      longshore sandbox logs SANDBOX
      longshore sandbox logs -f SANDBOX web
      longshore sandbox logs SANDBOX 17 2>errors.txt
    """

    async def shown() -> None:
        async with AsyncSandbox.attach(sandbox, **place.endpoint) as found:
            chosen = _chosen(await found.processes(), process, found.id)
            await _Printer(found, several=len(chosen) > 1, follow=follow).show(chosen)

    anyio.run(shown)


def _chosen(
    processes: tuple[ProcessInfo, ...], wanted: str | None, sandbox_id: str
) -> list[ProcessInfo]:
    """Raises ProcessNotFoundError."""
    if wanted is None:
        return list(processes)
    found = [one for one in processes if wanted in (str(one.pid), one.name)]
    if not found:
        message = f"no process {wanted!r} in the sandbox; see `longshore sandbox show {sandbox_id}`"
        raise ProcessNotFoundError("NOT_FOUND", message, sandbox_id=sandbox_id, phase="logs")
    # A name means the last that was started under it.
    return found[-1:]


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
        output = self._sandbox.process(process.pid).connect(follow=self._follow)
        async with output:
            async for chunk in output:
                # One at a time: a line that says who is speaking belongs to what follows it.
                async with self._turn:
                    await self._print(process, chunk)

    async def _print(self, process: ProcessInfo, chunk: Chunk) -> None:
        if self._several and self._last != process.pid:
            name = f" {process.name}" if process.name else ""
            head = f"==> {process.pid}{name}: {shlex.join(process.command)} <==\n"
            if self._last is not None:
                head = f"\n{head}"
            self._last = process.pid
            await console.write(console.STDOUT, head.encode("utf-8", "surrogateescape"))
        descriptor = console.STDOUT if chunk.stream == "stdout" else console.STDERR
        await console.write(descriptor, chunk.data)
