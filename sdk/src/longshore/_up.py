"""`longshore up`: server, worker and proxy on one machine, as three processes, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import anyio
import click

from longshore import __version__
from longshore._local import (
    DATA_DIR,
    TENSORLAKE_PORT,
    Listener,
    Plan,
    Ports,
    check_free,
    claimed,
    is_free,
    plan,
    read,
    with_driver,
    write,
)
from longshore._supervisor import Program, Screen, Supervisor

FunctionT = TypeVar("FunctionT", bound=Callable[..., None])

DEFAULT_API: Final = "127.0.0.1:8900"
STARTUP_SECONDS: Final = 60.0
PROBE_SECONDS: Final = 1.0
WORKER_STOP_SECONDS: Final = 60.0
"""Longer than the worker's own grace, in which it removes its sandboxes, and than what its driver
has to let go of an engine that stands still."""
STOP_SECONDS: Final = 10.0


def _port(name: str, what: str, default: int) -> Callable[[FunctionT], FunctionT]:
    return click.option(
        f"--port-{name}",
        type=click.IntRange(1, 65535),
        help=f"{what} ({default}, unless the config says otherwise).",
    )


@click.command()
@click.option(
    "--config", type=click.Path(path_type=Path), help="The worker's and proxy's YAML to start from."
)
@click.option("--server-config", type=click.Path(path_type=Path), help="The server's YAML.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(DATA_DIR),
    show_default=True,
    help="Where all state lives.",
)
@click.option(
    "--driver",
    metavar="NAME",
    help="What runs sandboxes: docker, podman, or any that is installed. [default: fork_exec]",
)
@_port("http", "The HTTP API", 8900)
@_port("grpc", "For workers", 8901)
@_port("proxy", "The proxy to sandboxes", 8095)
@_port("monitoring", "The worker's health", 8100)
def up(
    config: Path | None,
    server_config: Path | None,
    data_dir: Path,
    driver: str | None,
    **asked: int | None,
) -> None:
    """Run the whole local system until Ctrl-C.

    Starts `longshore server`, `longshore worker` and `longshore proxy`, restarts one that dies, and
    stops them in order. Everything listens on 127.0.0.1 unless a config says otherwise.

    \b
    Examples:
      longshore up
      longshore up --driver docker
    """
    began = time.monotonic()
    ports = Ports(
        http=asked["port_http"],
        grpc=asked["port_grpc"],
        proxy=asked["port_proxy"],
        monitoring=asked["port_monitoring"],
        extra=(TENSORLAKE_PORT,) if is_free(TENSORLAKE_PORT) else (),
    )
    place = data_dir.absolute()
    system = plan(with_driver(read(config), driver), read(server_config), ports, place)
    with claimed(place):
        check_free(system.listeners)
        write(place / "server.yaml", system.server)
        write(place / "worker.yaml", system.worker)
        screen = Screen(["server", "worker", "proxy"])
        supervisor = Supervisor(_programs(system, place), screen)

        def on_ready() -> None:
            screen.say(_banner(system, data_dir, time.monotonic() - began))

        status = anyio.run(supervisor.run, on_ready, STARTUP_SECONDS)
    if status:
        raise click.exceptions.Exit(status)


def _programs(system: Plan, place: Path) -> tuple[Program, ...]:
    """In the order in which they stop: the worker needs the other two to end its sandboxes."""
    worker, server = str(place / "worker.yaml"), str(place / "server.yaml")
    return (
        Program(
            name="worker",
            argv=_command("worker", "--config", worker, "--no-proxy"),
            ready=_answers(system.monitoring, "/monitoring/startup"),
            stop_seconds=WORKER_STOP_SECONDS,
        ),
        Program(
            name="proxy",
            argv=_command("proxy", "--config", worker),
            # Until the proxy has heard from the worker, it answers 503.
            # The worker registers once its proxy has heard from it: here, listening is enough.
            ready=partial(listens, system.proxy.address),
            stop_seconds=STOP_SECONDS,
        ),
        Program(
            name="server",
            argv=_command("server", "--config", server),
            ready=_answers(system.http, "/healthz"),
            stop_seconds=STOP_SECONDS,
        ),
    )


def _command(name: str, *arguments: str) -> tuple[str, ...]:
    # -P: a file in the current directory must not stand in for one of our modules.
    return (sys.executable, "-P", "-m", "longshore", name, *arguments, "--until-stdin-closes")


def _answers(listener: Listener, path: str) -> Callable[[], Awaitable[bool]]:
    return partial(answers, listener.address, path, 200)


async def listens(address: str) -> bool:
    """Whether somebody takes connections there."""
    host, _, port = address.rpartition(":")
    try:
        with anyio.fail_after(PROBE_SECONDS):
            async with await anyio.connect_tcp(host, int(port)):
                return True
    except (OSError, TimeoutError):
        return False


async def answers(address: str, path: str, status: int) -> bool:
    """Whether `path` there is answered with this status."""
    host, _, port = address.rpartition(":")
    try:
        with anyio.fail_after(PROBE_SECONDS):
            async with await anyio.connect_tcp(host, int(port)) as stream:
                request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
                await stream.send(request.encode())
                answer = await stream.receive()
                return answer.startswith(f"HTTP/1.1 {status} ".encode())
    except (OSError, TimeoutError, anyio.EndOfStream, anyio.BrokenResourceError):
        return False


def _banner(system: Plan, data_dir: Path, seconds: float) -> str:
    http, proxy = system.http.address, system.proxy.address
    usual = http == DEFAULT_API
    named = "" if usual else f"\n  export LONGSHORE_API_URL=http://{http}"
    bold = partial(click.style, bold=True) if sys.stdout.isatty() else str
    return f"""
{bold(f"Longshore {__version__} is up")}, after {seconds:.1f} s

  API      http://{http}
  proxy    http://{proxy}
  worker   http://{system.monitoring.address}/monitoring/startup
  data     {data_dir}

A sandbox, and a shell in it, from another terminal:
{named}
  longshore sandbox shell $(longshore sandbox create)

Ctrl-C stops everything.
"""
