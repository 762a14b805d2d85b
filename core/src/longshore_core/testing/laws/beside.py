"""Programs beside PID 1 by the engine's own means, where the driver has them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final

import anyio
from anyio import to_thread

from longshore_core._errors import BackendError
from longshore_core._model import Chunk, Handle, Stream
from longshore_core.abc import Running
from longshore_core.testing.bench import Bench, every
from longshore_core.testing.expect import Broken, equal, expect, refused
from longshore_core.testing.host import leaks
from longshore_core.testing.law import EXEC, PROGRAMS, Group, Law, laws_in
from longshore_core.testing.laws.logs import contiguous
from longshore_core.testing.programs import FOREVER

BESIDE: Final[Group[Bench]] = Group("exec", requires=(EXEC, PROGRAMS))

_MIB: Final = 1 << 20
_NOT_STARTED: Final = (126, 127)
"""How a shell tells that there is nothing to run."""


@BESIDE.law("E0.engine")
async def nothing_is_started_in_what_does_not_run(bench: Bench) -> None:
    handle = await bench.driver.create(bench.spec("c", FOREVER))
    await refused(_run(bench, handle, "exit 0"), "a program in what was not started")
    await bench.driver.start(handle)
    await bench.driver.remove(handle)
    await refused(_run(bench, handle, "exit 0"), "a program in what was removed")


@BESIDE.law("E1.engine")
async def a_program_beside_pid_1_ends_with_its_code_and_both_its_streams(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    for code in (0, 1, 43, 255):
        done = await _run(bench, handle, f"echo out; echo err >&2; exit {code}")
        equal(done, (code, b"out\n", b"err\n"), "code and streams")
    equal((await _run(bench, handle, "kill -KILL $$"))[0], 128 + 9, "the code of what was killed")


@BESIDE.law("E2.engine")
async def output_comes_while_a_program_beside_pid_1_runs(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    script = "echo first; read answer; echo second $answer"
    async with _started(bench, handle, script) as process, _output(process) as chunks:
        seen = b""
        while not seen.endswith(b"\n"):
            seen += (await anext(chunks)).data
        equal(seen, b"first\n", "what came before it was answered")
        await process.send(b"word\n")
        rest = b"".join([chunk.data async for chunk in chunks])
        equal((rest, await process.wait()), (b"second word\n", 0), "what came then, and its code")


@BESIDE.law("E3.engine")
async def a_program_beside_pid_1_has_no_terminal(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    done = await _run(bench, handle, "[ -t 0 ] || [ -t 1 ] || [ -t 2 ]; echo $?")
    equal(done[1], b"1\n", "the answer of a program that looks for a terminal")


@BESIDE.law("E4.engine", seconds=60)
async def a_program_beside_pid_1_reads_its_input_to_the_end(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    data = bench.random.randbytes(2 * _MIB)
    async with _started(bench, handle, "sha256sum; read late || echo nothing more") as process:
        for start in range(0, len(data), 1 << 16):
            await process.send(data[start : start + (1 << 16)])
        for _ in range(2):
            await process.send_eof()
        code, stdout, _ = await _outcome(process)
    digest = hashlib.sha256(data).hexdigest()
    equal((code, stdout[:64]), (0, digest.encode()), "code, and the hash of what it has read")
    expect(stdout.endswith(b"nothing more\n"), "its input has not ended")


@BESIDE.law("E4.2.engine")
async def input_after_its_end_is_refused(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    async with _started(bench, handle, "cat; sleep 1000") as process:
        await process.send_eof()
        await refused(process.send(b"late"), "input after its end")


@BESIDE.law("E6.engine")
async def what_cannot_be_started_is_refused_or_ends_as_in_a_shell(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    for argv, cwd in ((["/nonexistent/program"], None), (["/bin/sh"], "/nonexistent")):
        try:
            async with bench.driver.run(handle, argv, env={}, cwd=cwd) as process:
                code, _, _ = await _outcome(process)
        except BackendError:
            continue
        expect(code in _NOT_STARTED, f"{argv} in {cwd} ended with {code}, as if it had run")


@BESIDE.law("E9.engine", seconds=60)
async def a_child_in_the_background_does_not_hold_up_the_end_beside_pid_1(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    async with _started(bench, handle, "sleep 30 & echo started; exit 3") as process:
        with anyio.fail_after(5):
            equal(await process.wait(), 3, "its code")


@BESIDE.law("E10.engine", seconds=120)
async def every_byte_of_a_program_beside_pid_1_arrives(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    size = bench.many(4, 64) * _MIB
    script = f"head -c {size} /dev/zero | tr '\\000' '\\377'; printf 'complaint\\000' >&2"
    code, stdout, stderr = await _run(bench, handle, script)
    equal((code, len(stdout), stderr), (0, size, b"complaint\0"), "code, length, other stream")
    expect(stdout == b"\xff" * size, "it is not what was written")


@BESIDE.law("E14.engine", seconds=60)
async def leaving_a_program_beside_pid_1_ends_it(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    before = await to_thread.run_sync(bench.view.look)
    async with (
        _started(bench, handle, "echo up; sleep 1000") as process,
        _output(process) as chunks,
    ):
        equal((await anext(chunks)).data, b"up\n", "what it says first")
    left = tuple[str, ...]()
    with anyio.move_on_after(5):
        while True:
            after = await to_thread.run_sync(bench.view.look)
            left = tuple(e for e in leaks(before, after) if e.startswith("process"))
            if not left:
                return
            await anyio.sleep(0.02)
    raise Broken(f"still running after it was left: {', '.join(left)}")


@BESIDE.law("E15.engine", seconds=60)
async def who_waits_for_a_program_hears_that_its_container_is_gone(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    async with _started(bench, handle, "echo up; sleep 1000") as process:
        async with _output(process) as chunks:
            await anext(chunks)
        with anyio.move_on_after(2) as scope:
            await bench.driver.remove(handle)
            await every([process.wait])
        expect(not scope.cancelled_caught, "nothing was heard for two seconds")


@BESIDE.law("E17.engine")
async def a_program_beside_pid_1_has_the_environment_and_directory_asked_for(
    bench: Bench,
) -> None:
    handle = await bench.running("c", FOREVER)
    env = {"COLOUR": "deep green", "EMPTY": "", "ODD": "a=b\n'\"$x"}
    script = 'printf "%s|%s|%s|" "$COLOUR" "$EMPTY" "$ODD"; pwd'
    done = await _run(bench, handle, script, env=env, cwd="/")
    equal(done, (0, b"deep green||a=b\n'\"$x|/\n", b""), "what it sees of both")


@BESIDE.law("E18.engine")
async def arguments_beside_pid_1_arrive_as_they_are(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    words = ("two words", "", "$HOME", "*", "'\"\\", "line\nbreak", "ünï", "--", "-n")
    argv = ["/bin/sh", "-c", 'printf "%s|" "$@"', "sh", *words]
    async with bench.driver.run(handle, argv, env={}) as process:
        done = await _outcome(process)
    equal(done[1].decode(), "".join(f"{word}|" for word in words), "what it was given")


@BESIDE.law("E19.engine", seconds=120)
async def many_programs_at_once_beside_pid_1(bench: Bench) -> None:
    handle = await bench.running("c", FOREVER)
    count = bench.many(12, 100)
    before = await to_thread.run_sync(bench.view.look)
    calls = [partial(_run, bench, handle, f"echo {n}; exit {n % 7}") for n in range(count)]
    wanted = [(n % 7, f"{n}\n".encode(), b"") for n in range(count)]
    equal(await every([*calls]), wanted, "what came of all")
    left = await bench.left_since(before, "descriptor")
    expect(not left, f"descriptors have grown: {', '.join(left)}")


def _started(
    bench: Bench,
    handle: Handle,
    script: str,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> AbstractAsyncContextManager[Running]:
    marked = {"LONGSHORE_LAW": bench.mark, **(env or {})}
    return bench.driver.run(handle, ["/bin/sh", "-c", script], env=marked, cwd=cwd)


async def _run(bench: Bench, handle: Handle, script: str, **rest: Any) -> tuple[int, bytes, bytes]:
    async with _started(bench, handle, script, **rest) as process:
        return await _outcome(process)


@asynccontextmanager
async def _output(process: Running) -> AsyncGenerator[AsyncIterator[Chunk]]:
    """What it writes, not read to its end."""
    chunks = process.output()
    try:
        yield chunks
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


async def _outcome(process: Running) -> tuple[int, bytes, bytes]:
    chunks = [chunk async for chunk in process.output()]
    contiguous(chunks, 0)
    return await process.wait(), _of(chunks, Stream.STDOUT), _of(chunks, Stream.STDERR)


def _of(chunks: Sequence[Chunk], stream: Stream) -> bytes:
    return b"".join(chunk.data for chunk in chunks if chunk.stream is stream)


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
