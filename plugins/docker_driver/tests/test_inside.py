"""Programs beside PID 1."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import anyio
import pytest
from longshore_core import ContainerSpec, Handle
from longshore_core.abc import Driver

from tests.engines.between import Exchange

Shell = Callable[..., ContainerSpec]
Opener = Callable[..., object]


async def running(driver: Driver, spec: ContainerSpec) -> Handle:
    handle = await driver.create(spec)
    await driver.start(handle)
    return handle


async def test_leaving_a_program_kills_it(open_driver: Opener, shell: Shell) -> None:
    async with open_driver() as runtime:
        assert runtime.exec is not None
        handle = await running(runtime.driver, shell())
        argv = ("sh", "-c", "echo begun; exec sleep 1000")
        async with runtime.exec.run(handle, argv, env={}) as program:
            assert [(await anext(program.output())).data] == [b"begun\n"]
        with anyio.fail_after(10):
            await program.wait()
        await runtime.driver.remove(handle)


async def test_leaving_a_program_whose_number_comes_late_kills_it_too(
    open_between: Opener, shell: Shell
) -> None:
    late = 3

    async def engine(exchange: Exchange) -> None:
        nonlocal late
        if exchange.request.startswith("GET /exec/") and late:
            late -= 1
            await exchange.answer({"Running": True, "Pid": 0})
        else:
            await exchange.forward()

    async with open_between(engine) as runtime:
        assert runtime.exec is not None
        handle = await running(runtime.driver, shell())
        async with runtime.exec.run(handle, ("sleep", "1000"), env={}) as program:
            pass
        with anyio.fail_after(10):
            await program.wait()
        await runtime.driver.remove(handle)


async def test_leaving_a_program_kills_nobody_elses(open_between: Opener, shell: Shell) -> None:
    """Its number may be another's by now, or one of another host's, behind a tunnel."""
    with subprocess.Popen(["sleep", "1000"]) as bystander:

        async def engine(exchange: Exchange) -> None:
            if exchange.request.startswith("GET /exec/"):
                await exchange.answer({"Running": True, "Pid": bystander.pid})
            else:
                await exchange.forward()

        async with open_between(engine) as runtime:
            assert runtime.exec is not None
            handle = await running(runtime.driver, shell())
            async with runtime.exec.run(handle, ("sleep", "1000"), env={}):
                pass
            await runtime.driver.remove(handle)
        with pytest.raises(subprocess.TimeoutExpired):
            bystander.wait(timeout=0.2)
        bystander.kill()
