"""The images of the engine, and pulling those that it lacks: each once, for all who ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from longshore_core import (
    BackendError,
    ImageError,
    LongshoreError,
    PluginCrash,
    PullProgress,
    RegistryError,
)
from longshore_core.abc import ImageStore

from longshore_docker.answers import Image
from longshore_docker.config import Config
from longshore_docker.engine import Engine, Refused, parse_reference
from longshore_docker.platforms import refuse_unrunnable, sound_platform
from longshore_docker.streams import Streams

Report = Callable[[PullProgress], None]

_PASSING: Final = (
    *("timeout", "connection refused", "connection reset", "no such host", ": eof", "i/o"),
    *("temporary", "toomanyrequests", "server error", "bad gateway", "unavailable"),
)
"""What a registry's errors say when it may do better later."""


@dataclass(slots=True)
class _Pull:
    """A pull in progress, and those who wait for it."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    done: anyio.Event = field(default_factory=anyio.Event)
    failure: LongshoreError | None = None
    reports: list[Report] = field(default_factory=list[Report])
    latest: PullProgress | None = None

    def tell(self, progress: PullProgress) -> None:
        self.latest = progress
        for report in self.reports:
            report(progress)


class Images(ImageStore):
    """`tasks` is where pulls run: they belong to all who ask, and to none of them."""

    def __init__(self, config: Config, engine: Engine, streams: Streams, tasks: TaskGroup) -> None:
        self._config = config
        self._engine = engine
        self._streams = streams
        self._tasks = tasks
        self._pulls = dict[str, _Pull]()
        self._platform: str | None = None

    async def ensure(self, reference: str, progress: Report) -> None:
        """Raises RegistryError, too: for a registry that cannot be reached, or takes too long."""
        await self.have(reference, progress)

    async def have(self, reference: str, progress: Report | None = None) -> Image:
        """The image, pulled when it is not there; its programs can run here."""
        name = parse_reference(reference)
        engine = await self._engine_platform()
        refuse_unrunnable(self._config, engine)
        image = await self._engine.image(reference)
        if image is None:
            await self._pulled(reference, progress)
            image = await self._engine.image(reference)
        if image is None:
            raise ImageError(f"image {name.repository}:{name.tag} was pulled and is gone again")
        sound_platform(reference, image, engine, self._config)
        return image

    async def _pulled(self, reference: str, progress: Report | None) -> None:
        pull = self._pulls.get(reference)
        if pull is None:
            pull = self._pulls[reference] = _Pull()
            self._tasks.start_soon(self._pull, reference, pull)
        report = progress or _nobody
        pull.reports.append(report)
        if pull.latest:
            report(pull.latest)
        try:
            await pull.done.wait()
        finally:
            pull.reports.remove(report)
            if not pull.reports:
                pull.scope.cancel()
                if self._pulls.get(reference) is pull:
                    del self._pulls[reference]
        if pull.failure:
            raise pull.failure

    async def _pull(self, reference: str, pull: _Pull) -> None:
        seconds = self._config.pull_timeout_seconds
        try:
            with pull.scope:
                with anyio.fail_after(seconds):
                    await self._stream(reference, pull)
        except TimeoutError:
            message = (
                f"image {reference} was not pulled within {seconds:g} s (pull_timeout_seconds)"
            )
            pull.failure = RegistryError(message, retryable=True)
        except BackendError as exc:
            pull.failure = exc
        except Exception as exc:  # noqa: BLE001 -- here it would end the worker
            # Theirs who wait, as if they had pulled themselves.
            shown = f"{type(exc).__name__}: {exc}"
            pull.failure = PluginCrash("docker", f"the pull of image {reference} raised {shown}")
            pull.failure.__cause__ = exc
        finally:
            if self._pulls.get(reference) is pull:
                del self._pulls[reference]
            pull.done.set()

    async def _stream(self, reference: str, pull: _Pull) -> None:
        name = parse_reference(reference)
        auth = await self._engine.credentials(name.registry)
        query = {"fromImage": name.repository, "tag": name.tag}
        if self._config.platform:
            query["platform"] = self._config.platform
        layers = Layers(reference)
        try:
            async with self._streams.pull(query, auth) as news:
                async for each in news:
                    if "error" in each:
                        raise refusal(reference, str(each["error"]))
                    if layers.hear(each):
                        pull.tell(layers.progress)
        except Refused as exc:
            raise refusal(reference, str(exc)) from exc

    async def _engine_platform(self) -> str:
        if self._platform is None:
            self._platform = (await self._engine.info()).platform
        return self._platform


class Layers:
    """How far each layer of a pull has come."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._done = dict[str, int]()
        self._total = dict[str, int]()

    def hear(self, news: dict[str, Any]) -> bool:
        """Whether it says anything of bytes that are fetched."""
        layer = str(news.get("id"))
        detail: Any = news.get("progressDetail") or {}
        match news.get("status"):
            case "Downloading" if detail.get("total"):
                self._done[layer] = detail.get("current", 0)
                self._total[layer] = detail["total"]
            case "Download complete" | "Pull complete" if layer in self._total:
                self._done[layer] = self._total[layer]
            case _:
                return False
        return True

    @property
    def progress(self) -> PullProgress:
        return PullProgress(
            reference=self._reference,
            done_bytes=sum(self._done.values()),
            total_bytes=sum(self._total.values()) or None,
        )


def refusal(reference: str, reason: str) -> BackendError:
    """What became of a pull, from the engine's words."""
    message = f"cannot pull image {reference}: {' '.join(reason.split())}"
    if any(word in reason.lower() for word in _PASSING):
        return RegistryError(message, retryable=True)
    return ImageError(message)


def _nobody(_progress: PullProgress) -> None:
    pass
