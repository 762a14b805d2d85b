"""Programs beside PID 1."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import anyio
import pytest
from longshore_core import ContainerSpec, EngineUnavailable, Handle
from longshore_core.abc import Driver

from tests.engines.between import Exchange
from tests.engines.dockerd import Docker

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


async def until(docker: Docker, spec: ContainerSpec, program: str, *, runs: bool) -> None:
    def look() -> bool:
        return program in docker.run("top", f"indexify-{spec.id}", "-o", "pid,args")

    with anyio.fail_after(20):
        while await anyio.to_thread.run_sync(look) is not runs:
            await anyio.sleep(0.05)


async def test_a_program_whose_start_is_not_heard_of_is_killed(
    open_between: Opener, docker: Docker, shell: Shell
) -> None:
    spec = shell("exec sleep 2000")

    async def engine(exchange: Exchange) -> None:
        if exchange.request.startswith("POST /exec/"):
            await exchange.lose_answer()
            await until(docker, spec, "sleep 1234", runs=True)
        else:
            await exchange.forward()

    async with open_between(engine) as runtime:
        assert runtime.exec is not None
        handle = await running(runtime.driver, spec)
        with pytest.raises(EngineUnavailable, match="went away while asked to start a process"):
            async with runtime.exec.run(handle, ("sleep", "1234"), env={}):
                pytest.fail("nobody has said that it runs")
        await until(docker, spec, "sleep 1234", runs=False)
        await runtime.driver.remove(handle)


async def test_a_program_that_begins_after_its_start_was_cancelled_is_killed(
    open_between: Opener, docker: Docker, shell: Shell
) -> None:
    spec = shell("exec sleep 2000")
    asked, looked, begun = anyio.Event(), anyio.Event(), anyio.Event()

    async def engine(exchange: Exchange) -> None:
        if exchange.request.startswith("POST /exec/"):
            asked.set()
            await looked.wait()
            await exchange.lose_answer()
            begun.set()
            return
        await exchange.forward()
        if exchange.request.startswith("GET /exec/"):
            looked.set()

    async with open_between(engine) as runtime:
        executor = runtime.exec
        assert executor is not None
        handle = await running(runtime.driver, spec)

        async def run() -> None:
            async with executor.run(handle, ("sleep", "1234"), env={}):
                pytest.fail("nobody has said that it runs")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            with anyio.fail_after(20):
                await asked.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(20):
            await begun.wait()
        await until(docker, spec, "sleep 1234", runs=False)
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
