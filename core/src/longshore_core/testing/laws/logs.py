"""What PID 1 wrote, where the driver's engine keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from signal import SIGKILL
from typing import Final

import anyio

from longshore_core._model import Chunk, Handle, Stream
from longshore_core.testing.bench import Bench
from longshore_core.testing.expect import equal, expect, refused
from longshore_core.testing.law import LOGS, PROGRAMS, RECOVERS, SOCKETS, Group, Law, laws_in
from longshore_core.testing.laws.life import ending
from longshore_core.testing.programs import FOREVER, says

LOG: Final[Group[Bench]] = Group("logs", requires=(LOGS, PROGRAMS))

_FIRST_SECONDS: Final = 10.0


@LOG.law("LG1")
async def both_streams_are_kept_and_told_apart(bench: Bench) -> None:
    chunks = await _written(bench, await _ended(bench, says("out", "err")))
    equal(_of(chunks, Stream.STDOUT), b"out\n", "what it wrote to its output")
    equal(_of(chunks, Stream.STDERR), b"err\n", "what it wrote to its errors")


@LOG.law("LG1.2")
async def every_byte_has_its_position(bench: Bench) -> None:
    handle = await _ended(bench, f"{says('one', 'two')}; {says('three', 'four')}")
    contiguous(await _written(bench, handle), 0)


@LOG.law("LG2")
async def logs_can_be_read_on_from_any_byte(bench: Bench) -> None:
    handle = await _ended(bench, f"{says('one', 'two')}; {says('three', 'four')}")
    whole = _all(await _written(bench, handle))
    for offset in (1, len(whole) // 2, len(whole) - 1, len(whole)):
        rest = await _written(bench, handle, offset)
        contiguous(rest, offset)
        equal(_all(rest), whole[offset:], f"what follows from byte {offset} on")


@LOG.law("LG3")
async def who_follows_hears_what_is_written_and_of_the_end(bench: Bench) -> None:
    handle = await bench.running("c", f"echo first; {FOREVER}")
    with anyio.fail_after(_FIRST_SECONDS):
        async with bench.driver.logs(handle, follow=True) as chunks:
            heard = b""
            while b"\n" not in heard:
                heard += (await anext(chunks)).data
            equal(heard, b"first\n", "what came while it ran")
            await bench.driver.signal(handle, SIGKILL)
            equal([chunk async for chunk in chunks], [], "what came after that")


@LOG.law("LG4", requires=(SOCKETS,))
async def bytes_that_are_no_text_are_kept_as_they_are(bench: Bench) -> None:
    script = "printf 'a\\000\\377\\r\\nb\\rc'; head -c 100000 /dev/zero | tr '\\000' x"
    chunks = await _written(bench, await _ended(bench, script))
    got = _of(chunks, Stream.STDOUT)
    wanted = b"a\x00\xff\r\nb\rc" + b"x" * 100_000
    expect(got == wanted, f"{len(wanted)} bytes became {len(got)} others: {got[:20]!r}…")


@LOG.law("LG5")
async def what_writes_nothing_has_empty_logs(bench: Bench) -> None:
    handle = await _ended(bench, "exit 0")
    equal(await _written(bench, handle), [], "the logs of what was silent")


@LOG.law("LG5.2")
async def what_was_removed_has_no_logs(bench: Bench) -> None:
    handle = await _ended(bench, says("out", "err"))
    await bench.driver.remove(handle)
    await refused(_written(bench, handle), "the logs of what was removed")


@LOG.law("LG6", requires=(RECOVERS,))
async def the_next_driver_has_the_logs_of_the_last(bench: Bench) -> None:
    handle = await _ended(bench, says("out", "err"))
    before = await _written(bench, handle)
    await bench.reopen()
    equal(_all(await _written(bench, bench.stored(handle))), _all(before), "logs after a restart")


def contiguous(chunks: Sequence[Chunk], offset: int) -> None:
    """Check that no byte is told of twice, and none left out."""
    for chunk in chunks:
        equal(chunk.offset, offset, f"the position of {chunk.data[:20]!r}")
        expect(chunk.data, f"an empty piece at {offset}")
        offset += len(chunk.data)


async def _ended(bench: Bench, script: str) -> Handle:
    handle = await bench.running("c", script)
    await ending(bench, handle)
    return handle


async def _written(bench: Bench, handle: Handle, offset: int = 0) -> list[Chunk]:
    async with bench.driver.logs(handle, offset=offset) as chunks:
        return [chunk async for chunk in chunks]


def _of(chunks: Sequence[Chunk], stream: Stream) -> bytes:
    return b"".join(chunk.data for chunk in chunks if chunk.stream is stream)


def _all(chunks: Sequence[Chunk]) -> bytes:
    return b"".join(chunk.data for chunk in chunks)


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
