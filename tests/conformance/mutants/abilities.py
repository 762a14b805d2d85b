"""Images, health, pauses, usage and logs, broken."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import anyio
from anyio.lowlevel import checkpoint
from longshore_core import (
    BackendError,
    Chunk,
    Fingerprint,
    Handle,
    ImageError,
    PullProgress,
    Stream,
    Usage,
)
from longshore_core.testing.reference import (
    Modelled,
)
from longshore_core.testing.reference_abilities import (
    ModelHealth,
    ModelImages,
    ModelLogs,
    ModelMeter,
    ModelPauser,
)

from tests.conformance.mutants.planting import ability

# Images.


@ability("IM1", "waited in vain for something that was due")
class PullsEachTime(ModelImages):
    async def ensure(self, reference: str, progress: Callable[[PullProgress], None]) -> None:
        if reference in self.there:
            await anyio.sleep(6)
        await super().ensure(reference, progress)


@ability("IM1.2", "what eight who asked at once")
class RefusesTheSecondWhoAsks(ModelImages):
    busy = False

    async def ensure(self, reference: str, progress: Callable[[PullProgress], None]) -> None:
        if self.busy:
            raise ImageError(f"{reference} is being pulled", retryable=True)
        self.busy = True
        await super().ensure(reference, progress)
        self.busy = False


@ability("IM1.3", "4 of 3 bytes")
class CountsBeyondTheWhole(ModelImages):
    async def ensure(self, reference: str, progress: Callable[[PullProgress], None]) -> None:
        def more(told: PullProgress) -> None:
            progress(replace(told, done_bytes=told.done_bytes + 1))

        await super().ensure(reference, more)


@ability("IM1.4", "the fingerprint names no image")
class NamesNoImage(ModelImages):
    async def pull(self, reference: str, listeners: list[Callable[[PullProgress], None]]) -> None:
        await checkpoint()


@ability("IM2", "UPPER case")
class TakesAnyReference(ModelImages):
    async def ensure(self, reference: str, progress: Callable[[PullProgress], None]) -> None:
        self.there.add(reference)
        await checkpoint()


@ability("IM2.2", "the error does not name the image")
class DoesNotNameTheImage(ModelImages):
    async def ensure(self, reference: str, progress: Callable[[PullProgress], None]) -> None:
        try:
            await super().ensure(reference, progress)
        except ImageError as exc:
            raise ImageError("the registry does not answer", retryable=True) from exc


@ability("IM3", "the pull of example/image:1 was abandoned")
class FailsAllWhenOneLeaves(ModelImages):
    left = False

    async def ensure(self, reference: str, progress: Callable[[PullProgress], None]) -> None:
        try:
            await anyio.sleep(0.01)
            await super().ensure(reference, progress)
        except anyio.get_cancelled_exc_class():
            self.left = True
            raise
        if self.left:
            raise ImageError(f"the pull of {reference} was abandoned", retryable=True)


# Health.


@ability("F1.2", "waited in vain for something that was due")
class IsSilentUntilSomethingChanges(ModelHealth):
    async def follow(self) -> AsyncGenerator[Fingerprint]:
        await anyio.sleep(1.2)
        async for fingerprint in super().follow():
            yield fingerprint


@ability("F1.3", "was not done within")
class TellsOneFollowerOnly(ModelHealth):
    followed = False

    async def follow(self) -> AsyncGenerator[Fingerprint]:
        if self.followed:
            await anyio.sleep_forever()
        self.followed = True
        async for fingerprint in super().follow():
            yield fingerprint


@ability("F1.4", "the engine is away")
class RaisesForTheEnginesSake(ModelHealth):
    def fingerprint(self) -> Fingerprint:
        fingerprint = super().fingerprint()
        if not fingerprint.healthy:
            raise BackendError(fingerprint.reason)
        return fingerprint


@ability("F2.2", "waited in vain for something that was due")
class NeverSeesTheEngineComeBack(ModelHealth):
    gone: Fingerprint | None = None

    def fingerprint(self) -> Fingerprint:
        fingerprint = super().fingerprint()
        if not fingerprint.healthy:
            self.gone = fingerprint
        return self.gone or fingerprint


# Pauses.


@ability("U1", "its phase long after it would have ended")
class PausesInNameOnly(ModelPauser):
    async def pause(self, handle: Handle) -> None:
        self.driver.running(handle)
        await checkpoint()


@ability("U1.3", "was not done within")
class PausesAll(ModelPauser):
    async def pause(self, handle: Handle) -> None:
        for container in self.driver.containers.values():
            self.driver.pause(container)
        await super().pause(handle)


@ability("U2", "is paused already")
class RefusesToPauseTwice(ModelPauser):
    async def pause(self, handle: Handle) -> None:
        if self.driver.running(handle).record.paused:
            raise BackendError(f"{handle.id} is paused already")
        await super().pause(handle)


@ability("U4", "pausing what was not started")
class PausesWhatDoesNotRun(ModelPauser):
    async def pause(self, handle: Handle) -> None:
        container = self.driver.known(handle)
        if container is not None:
            self.driver.pause(container)
        await checkpoint()


# Usage.


@ability("M5", "nothing was measured")
class MeasuresNothing(ModelMeter):
    async def usage(self, handle: Handle) -> Usage:
        await super().usage(handle)
        return Usage()


@ability("M5.4", "the usage of what was not started")
class MeasuresTheDead(ModelMeter):
    async def usage(self, handle: Handle) -> Usage:
        await checkpoint()
        return Usage(cpu_seconds=0.0, memory_bytes=0, pids=0)


# Logs.


@ability("LG1", "what it wrote to its output")
class MixesTheStreams(ModelLogs):
    def lines(self, container: Modelled, offset: int) -> list[Chunk]:
        return [replace(chunk, stream=Stream.STDOUT) for chunk in super().lines(container, offset)]


@ability("LG1.2", "the position of")
class CountsPiecesAndNotBytes(ModelLogs):
    def lines(self, container: Modelled, offset: int) -> list[Chunk]:
        lines = super().lines(container, offset)
        return [replace(chunk, offset=number) for number, chunk in enumerate(lines)]


@ability("LG2", "the position of")
class ReadsWholePiecesOnly(ModelLogs):
    def lines(self, container: Modelled, offset: int) -> list[Chunk]:
        return [chunk for chunk in super().lines(container, 0) if chunk.offset >= offset]


@ability("LG3", "was not done within")
class FollowsForEver(ModelLogs):
    @asynccontextmanager
    async def logs(
        self, handle: Handle, *, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[AsyncIterator[Chunk]]:
        async with super().logs(handle, offset=offset, follow=follow) as chunks:

            async def for_ever() -> AsyncGenerator[Chunk]:
                async for chunk in chunks:
                    yield chunk
                if follow:
                    await anyio.sleep_forever()

            async with aclosing(for_ever()) as endless:
                yield endless


@ability("LG5.2", "the logs of what was removed")
class KeepsLogsForEver(ModelLogs):
    @asynccontextmanager
    async def logs(
        self, handle: Handle, *, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[AsyncIterator[Chunk]]:
        if self.driver.known(handle) is None:

            async def nothing() -> AsyncGenerator[Chunk]:
                return
                yield

            async with aclosing(nothing()) as chunks:
                yield chunks
            return
        async with super().logs(handle, offset=offset, follow=follow) as chunks:
            yield chunks
