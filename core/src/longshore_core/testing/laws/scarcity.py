"""The life of a container when the worker's machine has run out of something."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from signal import SIGKILL
from typing import Final

from anyio import to_thread

from longshore_core._errors import BackendError
from longshore_core._model import ContainerSpec, Exit, Handle, Phase
from longshore_core._plugins.opening import AdaptedDriver
from longshore_core.testing.bench import Bench
from longshore_core.testing.expect import equal, expect
from longshore_core.testing.law import Group, Law, laws_in
from longshore_core.testing.programs import FOREVER
from longshore_core.trees import delete_tree

LIFE: Final[Group[Bench]] = Group("life")

_DISK_KIB: Final = 256
_DISK_FILES: Final = 512
_SPARE: Final = 2
"""How many more files may be opened: fewer than it takes to start something."""


@LIFE.law("L12")
async def a_full_disk_is_an_error_by_name_and_loses_nothing(bench: Bench) -> None:
    """The disk of the worker's state: what runs runs on, what ends is told of, and room is all that
    is needed."""
    async with (
        _small_disk(bench, "small") as disk,
        bench.another("worker-1/small", state="small") as driver,
    ):
        there = await _start(driver, bench.spec("there", FOREVER))
        filler = disk / "filler"
        filler.mkdir()
        await to_thread.run_sync(_fill, filler)
        spec = bench.spec("c", FOREVER)
        with contextlib.suppress(BackendError):
            # It may do without the disk; it may not fail without a name.
            await _start(driver, spec)
        equal(await _phase(driver, there), Phase.RUNNING, "the phase of what ran before")
        with contextlib.suppress(BackendError):
            await driver.signal(there, SIGKILL)
        end = await driver.wait(there)
        expect(end in (Exit(signal=SIGKILL), Exit()), f"what was killed meanwhile ended as {end}")
        delete_tree(filler)
        handle = await _start(driver, spec)
        equal(await _phase(driver, handle), Phase.RUNNING, "its phase, once there was room")
        for each in (there, handle):
            await driver.remove(each)
        equal(list(await driver.survey()), [], "the survey after all were removed")


@LIFE.law("L12.2")
async def a_worker_without_descriptors_fails_by_name_and_loses_nothing(bench: Bench) -> None:
    there = await bench.running("there", FOREVER)
    spec = bench.spec("c", FOREVER)
    with _few_descriptors(), contextlib.suppress(BackendError):
        await _start(bench.driver, spec)
    equal(await bench.phase("there"), Phase.RUNNING, "the phase of what ran before")
    await _start(bench.driver, spec)
    equal(await bench.phase("c"), Phase.RUNNING, "its phase, once there were descriptors")
    await bench.driver.remove(there)


async def _start(driver: AdaptedDriver, spec: ContainerSpec) -> Handle:
    handle = await driver.create(spec)
    await driver.start(handle)
    return handle


async def _phase(driver: AdaptedDriver, handle: Handle) -> Phase | None:
    found = [each.phase for each in await driver.survey() if each.id == handle.id]
    return found[0] if found else None


@asynccontextmanager
async def _small_disk(bench: Bench, name: str) -> AsyncGenerator[Path]:
    """A directory of the bench that is a file system of its own."""
    path = bench.root / name
    path.mkdir()
    options = f"size={_DISK_KIB}k,nr_inodes={_DISK_FILES},mode=700"
    mount = ["mount", "-t", "tmpfs", "-o", options, bench.mark, str(path)]
    bench.need(os.geteuid() == 0 and await _succeeds(mount), "root, who may mount file systems")
    try:
        yield path
    finally:
        # Lazily: a guest may look at it a moment longer.
        await _succeeds(["umount", "--lazy", str(path)])


async def _succeeds(command: list[str]) -> bool:
    run = partial(subprocess.run, command, capture_output=True, check=False)
    return (await to_thread.run_sync(run)).returncode == 0


def _fill(directory: Path) -> None:
    """Until there is room neither for a byte nor for a file."""
    with contextlib.suppress(OSError), (directory / "big").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))
    with contextlib.suppress(OSError):
        for number in range(_DISK_FILES):
            (directory / str(number)).touch()


@contextmanager
def _few_descriptors() -> Generator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = list[int]()
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(_descriptors()) + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        for _ in range(min(_SPARE, len(opened))):
            os.close(opened.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in opened:
            os.close(descriptor)


def _descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
