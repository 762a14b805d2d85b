"""The engine's images: each is pulled once, however many ask for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from longshore_core import BackendError, ImageError, PullProgress, RegistryError
from longshore_core.abc import ImageStore
from longshore_core.address import UnixAddress
from longshore_core.platforms import can_run

from longshore_podman.answers import Image
from longshore_podman.config import Config
from longshore_podman.credentials import find_credentials, header, registry_of
from longshore_podman.engine import Engine, Refusal
from longshore_podman.known import Known
from longshore_podman.recent import Recent

Listener = Callable[[PullProgress], None]

_CREATE: Final = "/v1.40/images/create"
"""Of the API that Podman shares with Docker: its own tells no bytes."""
_PASSING: Final = (
    *("connection refused", "no such host", "i/o timeout", "timeout exceeded", "EOF"),
    *("connection reset", "temporary failure", "too many requests", "toomanyrequests"),
    *("503 Service", "502 Bad", "500 Internal", "504 Gateway"),
)
"""Words of errors that another attempt may mend."""


@dataclass(slots=True)
class _Pull:
    reference: str
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    over: anyio.Event = field(default_factory=anyio.Event)
    listeners: list[Listener] = field(default_factory=list[Listener])
    latest: PullProgress | None = None
    failure: BackendError | None = None

    def tell(self, progress: PullProgress) -> None:
        if progress != self.latest:
            self.latest = progress
            for listener in list(self.listeners):
                listener(progress)


class Images(ImageStore):
    """Pulls what the engine lacks. Its pulls are tasks of a group that outlives who asks."""

    def __init__(self, engine: Engine, config: Config, known: Known, tasks: TaskGroup) -> None:
        self._engine = engine
        self._config = config
        self._known = known
        self._tasks = tasks
        self._pulls: dict[str, _Pull] = {}
        self._ensured = Recent[Image]()
        """What `ensure` found, for the one who makes a container of it next."""

    async def ensure(self, reference: str, progress: Listener) -> None:
        self._ensured.keep(reference, await self.obtain(reference, progress))

    async def obtain_once(self, reference: str) -> Image:
        """What `obtain` answers; what `ensure` has just found is not looked for again."""
        return self._ensured.take(reference) or await self.obtain(reference)

    async def obtain(self, reference: str, progress: Listener = lambda _: None) -> Image:
        """The image, pulled when it is not there. Raises what `ensure` does."""
        _check(reference)
        native = (await self._known.ask()).platform
        wanted = self._config.platform or native
        self._refuse_unrunnable(wanted, native)
        image = await self._find(reference)
        if image is None:
            await self._pull(reference, progress)
            image = await self._find(reference)
        if image is None:
            raise ImageError(f"image {reference!r} was pulled and is gone again", retryable=True)
        if not _is_same(image.platform, wanted):
            raise ImageError(
                f"image {reference!r} is for {image.platform}, this engine runs {wanted}: pull or "
                f"build it for that; or set driver.platform to {image.platform}, with "
                "qemu-user-static on the engine's host"
            )
        return image

    async def prepull(self, logger: logging.Logger) -> None:
        """Pull what the operator wants to be there, one after the other, once the engine is up."""
        await self._known.told.wait()
        for reference in self._config.prepull:
            try:
                await self.obtain(reference)
            except BackendError as exc:
                logger.warning("podman_prepull_failed", extra={"why": str(exc)})

    async def _find(self, reference: str) -> Image | None:
        try:
            return await self._engine.image(reference)
        except Refusal as exc:
            raise ImageError(f"image {reference!r}: {exc}") from exc

    def _refuse_unrunnable(self, wanted: str, native: str) -> None:
        """Only of this host can be known what it runs."""
        is_here = isinstance(self._engine.address, UnixAddress)
        if is_here and not can_run(wanted, native):
            raise ImageError(
                f"this host runs no programs of {wanted} (driver.platform): install "
                f"qemu-user-static, or use images for {native}"
            )

    async def _pull(self, reference: str, progress: Listener) -> None:
        """Join the pull that is under way, or begin one; the last to leave abandons it."""
        pull = self._pulls.get(reference)
        if pull is None:
            pull = self._pulls[reference] = _Pull(reference)
            self._tasks.start_soon(self._run, pull)
        pull.listeners.append(progress)
        if pull.latest is not None:
            progress(pull.latest)
        try:
            await pull.over.wait()
        finally:
            pull.listeners.remove(progress)
            if not pull.listeners and not pull.over.is_set():
                self._pulls.pop(reference, None)
                pull.scope.cancel()
        if pull.failure is not None:
            raise pull.failure

    async def _run(self, pull: _Pull) -> None:
        try:
            with pull.scope:
                await self._transfer(pull)
        except BackendError as exc:
            pull.failure = exc
        except Exception as exc:  # noqa: BLE001  # it must not end all that is pulled here
            what = f"image {pull.reference!r} cannot be pulled: {type(exc).__name__}: {exc}"
            pull.failure = BackendError(what)
            pull.failure.__cause__ = exc
        finally:
            if self._pulls.get(pull.reference) is pull:
                del self._pulls[pull.reference]
            pull.over.set()

    async def _transfer(self, pull: _Pull) -> None:
        seconds = self._config.pull_timeout_seconds
        try:
            with anyio.fail_after(seconds):
                await self._follow(pull)
        except TimeoutError as exc:
            raise RegistryError(
                f"image {pull.reference!r} was not pulled within {seconds:g} s "
                "(driver.pull_timeout_seconds)",
                retryable=True,
            ) from exc
        except Refusal as exc:
            raise _blamed(pull.reference, str(exc)) from exc

    async def _follow(self, pull: _Pull) -> None:
        credentials = await find_credentials(pull.reference)
        params = {"fromImage": pull.reference}
        if self._config.platform:
            params["platform"] = self._config.platform
        headers = header(credentials, registry_of(pull.reference))
        layers: dict[str, tuple[int, int]] = {}
        pull.tell(PullProgress(reference=pull.reference))
        async with self._engine.stream("POST", _CREATE, params=params, headers=headers) as answer:
            async for said in self._engine.objects(answer):
                if said.get("error"):
                    raise _blamed(pull.reference, str(said["error"]))
                _count(layers, said)
                pull.tell(_sum(pull.reference, layers))


def _check(reference: str) -> None:
    if not reference or any(character.isspace() or ord(character) < 32 for character in reference):
        raise ImageError(
            f"{reference!r} is no reference of an image, such as docker.io/library/python:3.12"
        )


def _count(layers: dict[str, tuple[int, int]], said: dict[str, Any]) -> None:
    detail = said.get("progressDetail") or {}
    if detail.get("total"):
        layers[str(said.get("id"))] = (int(detail.get("current", 0)), int(detail["total"]))
    elif said.get("status") == "Download complete" and said.get("id") in layers:
        total = layers[said["id"]][1]
        layers[said["id"]] = (total, total)


def _sum(reference: str, layers: dict[str, tuple[int, int]]) -> PullProgress:
    done, total = (
        (sum(counts) for counts in zip(*layers.values(), strict=True)) if layers else (0, 0)
    )
    return PullProgress(reference=reference, done_bytes=done, total_bytes=total or None)


def _blamed(reference: str, said: str) -> BackendError:
    """What Podman says of a pull, as a sentence about the image."""
    message = f"image {reference!r} cannot be pulled: {said}"
    if any(word.lower() in said.lower() for word in _PASSING):
        return RegistryError(message, retryable=True)
    if "unauthorized" in said or "denied" in said or "authentication required" in said:
        message += f"; log in to {registry_of(reference)} with `podman login`"
    return ImageError(message)


def _is_same(one: str, other: str) -> bool:
    """Whether two platforms differ by no more than a variant, such as `v8` of `linux/arm64/v8`."""
    return one.split("/")[:2] == other.split("/")[:2]
