"""The driver of `docs/writing-a-plugin.md` is one."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGTERM
from types import ModuleType

import anyio
import pytest
from longshore_core import (
    BackendError,
    ContainerId,
    ContainerSpec,
    Exit,
    Gap,
    Host,
    Phase,
    Transition,
    UnixReach,
)
from longshore_core.abc import Driver

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "prefix_driver"
SLEEPER = ("sleep", "600")


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "longshore_prefix", FOLDER / "longshore_prefix.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def no_transitions() -> AsyncGenerator[AsyncIterator[Transition | Gap]]:
    async def none() -> AsyncIterator[Transition | Gap]:
        return
        yield

    yield none()


@pytest.fixture
async def driver(plugin: ModuleType, tmp_path: Path) -> AsyncGenerator[Driver]:
    host = Host(
        name="prefix",
        owner="worker-1/driver",
        state_dir=tmp_path,
        logger=logging.getLogger("prefix"),
        transitions=no_transitions,
    )
    plug = plugin.longshore_driver()
    async with plug.open(plug.config(), host) as runtime:
        yield runtime.driver
    assert list((tmp_path / "containers").glob("*")) == []


def spec(*argv: str, sockets: bool = False) -> ContainerSpec:
    return ContainerSpec(id=ContainerId("ns/app:1"), argv=argv, sockets=sockets)


async def test_a_container_runs_its_command_and_says_how_it_ended(driver: Driver) -> None:
    handle = await driver.create(spec("sh", "-c", "exit 3"))
    assert await driver.create(spec("sh", "-c", "exit 3")) == handle
    await driver.start(handle)
    with anyio.fail_after(10):
        assert await driver.wait(handle) == Exit(code=3)
    (found,) = await driver.survey()
    assert (found.phase, found.exit) == (Phase.EXITED, Exit(code=3))


async def test_a_signal_reaches_it_and_every_waiter_hears_of_the_end(driver: Driver) -> None:
    handle = await driver.create(spec(*SLEEPER))
    assert await driver.start(handle) == await driver.start(handle)
    exits = []

    async def wait() -> None:
        exits.append(await driver.wait(handle))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            tasks.start_soon(wait)
            await driver.signal(handle, SIGTERM)
    assert exits == [Exit(signal=SIGTERM)] * 2


async def test_a_guest_finds_its_sockets_where_the_worker_is_told_to_look(driver: Driver) -> None:
    command = 'test -d "$LONGSHORE_SOCKETS" && echo hi > "$LONGSHORE_SOCKETS/note"'
    handle = await driver.create(spec("sh", "-c", command, sockets=True))
    reach = (await driver.start(handle)).reach
    assert isinstance(reach, UnixReach)
    with anyio.fail_after(10):
        assert await driver.wait(handle) == Exit(code=0)
    assert await anyio.Path(reach.path, "note").read_text() == "hi\n"


async def test_removing_ends_and_forgets_and_may_be_repeated(driver: Driver) -> None:
    handle = await driver.create(spec(*SLEEPER))
    await driver.start(handle)
    await driver.remove(handle)
    await driver.remove(handle)
    assert await driver.survey() == []
    with pytest.raises(BackendError, match="cannot be started"):
        await driver.start(handle)


def test_installed_it_is_listed_and_its_section_checked(tmp_path: Path) -> None:
    info = tmp_path / "longshore_prefix-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: longshore-prefix\nVersion: 0.1.0\n"
    )
    (info / "entry_points.txt").write_text("[longshore.drivers]\nprefix = longshore_prefix\n")
    (tmp_path / "good.yaml").write_text("driver: {type: prefix, command: [nice]}\n")
    (tmp_path / "bad.yaml").write_text("driver: {type: prefix, comand: [nice]}\n")
    places = [str(tmp_path), str(FOLDER), *filter(None, sys.path)]

    def longshore(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "longshore", *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
            capture_output=True,
            text=True,
            check=False,
        )

    listed = longshore("plugins", "--config", str(tmp_path / "good.yaml")).stdout
    (row,) = [line.split() for line in listed.splitlines() if "longshore-prefix" in line]
    assert row[1:6] == ["prefix", "longshore-prefix", "0.1.0", "1.0", "ok"]
    refused = longshore("config", "check", str(tmp_path / "bad.yaml"))
    assert (refused.returncode, refused.stderr) == (
        2,
        "error: driver.comand: Extra inputs are not permitted; did you mean 'command'?\n",
    )
