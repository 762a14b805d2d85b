"""The one door to the docker SDK: typed on this side, and its errors are ours.

The SDK blocks, so each call runs in a thread, of which there is a fixed number. What only asks is
abandoned when its caller is cancelled; what makes or ends something is waited for, so that the
caller knows what there is, until the worker closes. Streams are in `longshore_docker.streams`.
"""

from __future__ import annotations

import json
import logging
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeVar, cast

import anyio
import anyio.to_thread
import docker
import docker.auth
import docker.errors
import docker.utils
import requests
from longshore_core import BackendError, EngineUnavailable, ImageError
from longshore_core.address import TcpAddress, UnixAddress

from longshore_docker import credentials, transport
from longshore_docker.answers import (
    Container,
    Image,
    Info,
    Listed,
    read_container,
    read_image,
    read_info,
    read_listed,
)
from longshore_docker.leftovers import Leftovers

ResultT = TypeVar("ResultT")

_ASK_SECONDS: Final = 10
_THREADS: Final = 32
_FILE_LIMIT: Final = 1 << 20
_PIECE: Final = 1 << 16


class Refused(BackendError):
    """The engine has answered, and said no. `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, retryable=status >= 500)
        self.status = status


class EngineBusy(EngineUnavailable):
    """It is there, and takes longer than anybody waits. What it was asked for may still come."""


class Made(NamedTuple):
    """A container that was made."""

    id: str
    warnings: Sequence[str]


class Engine:
    """A Docker engine, which may be away. Every call raises EngineUnavailable, or Refused."""

    def __init__(
        self, address: UnixAddress | TcpAddress, act_seconds: float, logger: logging.Logger
    ) -> None:
        self.address = address
        self._act_seconds = act_seconds
        self._limiter = anyio.CapacityLimiter(_THREADS)
        self._free = anyio.CapacityLimiter(math.inf)
        """For those whom the other one has let in."""
        self._leftovers = Leftovers(isinstance(address, UnixAddress), logger, self._free)
        self._acts = set[anyio.CancelScope]()
        self.patience = math.inf
        """Until when anybody waits for anything."""
        self._making = threading.Lock()
        self._clients: tuple[Any, Any] | None = None

    def hurry(self, seconds: float) -> None:
        """Also what makes or ends something is waited for no longer than this, from now on."""
        self.patience = anyio.current_time() + seconds
        for scope in self._acts:
            scope.deadline = self.patience

    def close(self) -> None:
        """Let go of what is kept open. Blocks for a moment at most."""
        with self._making:
            for client in self._clients or ():
                client.close()

    # Containers.

    async def inspect(self, container: str) -> Container | None:
        """A container by name or id; `None` when there is none."""
        answer = await self._ask(
            f"look at container {container}", _or_none(lambda c: c.inspect_container(container))
        )
        return None if answer is None else read_container(answer)

    async def labelled(self, label: str) -> Sequence[Listed]:
        """Every container with a label, running or not."""
        answer = await self._ask(
            "list containers", lambda c: c.containers(all=True, filters={"label": [label]})
        )
        return [read_listed(each) for each in answer]

    async def create(self, name: str, body: Mapping[str, Any], platform: str | None = None) -> Made:
        """Make a container."""
        answer = await self._act(
            f"create container {name}",
            lambda c: c.create_container_from_config(body, name, platform),
        )
        return Made(answer["Id"], tuple(map(str, answer.get("Warnings") or ())))

    async def start(self, container: str) -> None:
        """Start it. By its id, also when the engine was killed over an earlier attempt."""
        what, call = f"start container {container}", lambda c: c.start(container)
        await self._leftovers.start(container, lambda: self._act(what, call))

    async def kill(self, container: str, signal: str) -> None:
        what = f"send {signal} to container {container}"
        await self._act(what, lambda c: c.kill(container, signal))

    async def remove(self, container: str, *, begun: bool = True) -> None:
        """End it and remove it, with its volumes. It is gone already: nothing. By its id, also when
        the engine was killed over its start; `begun`: it is known to have run."""
        await self._act(
            f"remove container {container}",
            _or_none(lambda c: c.remove_container(container, v=True, force=True)),
        )
        await self._leftovers.end(container, begun=begun)

    async def pause(self, container: str) -> None:
        await self._act(f"pause container {container}", lambda c: c.pause(container))

    async def unpause(self, container: str) -> None:
        await self._act(f"resume container {container}", lambda c: c.unpause(container))

    async def stats(self, container: str) -> Mapping[str, Any]:
        """Its counters, without a second sample to compare them with."""
        what = f"measure container {container}"
        answer = await self._ask(what, lambda c: c.stats(container, stream=False, one_shot=True))
        return cast("Mapping[str, Any]", answer)

    async def archive(self, container: str, path: str) -> bytes | None:
        """A small file of a container, in a tar archive; `None` when there is none. Raises
        ImageError for a large one: how large it is, the image decides."""

        def read(client: Any) -> bytes:
            archive = bytearray()
            with _get(client, f"/containers/{container}/archive", {"path": path}) as answer:
                for piece in answer.iter_content(_PIECE):
                    archive += piece
                    if len(archive) > _FILE_LIMIT:
                        raise ImageError(f"the image's {path} has more than {_FILE_LIMIT} bytes")
            return bytes(archive)

        return await self._ask(f"read {path} of container {container}", _or_none(read))

    async def past(self, container: str) -> list[Mapping[str, Any]]:
        """Signals that were sent to a container, whether its memory ran out, and when it ended, as
        far as the engine remembers: some hundred events."""

        def read(client: Any) -> list[Mapping[str, Any]]:
            filters = {"container": [container], "event": ["kill", "oom", "die"]}
            # An end that has come already makes it answer at once.
            query = {"since": "0", "until": f"{time.time():.9f}", "filters": json.dumps(filters)}
            with _get(client, "/events", query) as answer:
                return [json.loads(line) for line in answer.iter_lines() if line]

        return await self._ask(f"ask what happened to container {container}", read)

    # Processes beside PID 1.

    async def exec_create(
        self, container: str, argv: Sequence[str], env: Mapping[str, str], cwd: str | None
    ) -> str:
        answer = await self._act(
            f"start {argv[0]} in container {container}",
            lambda c: c.exec_create(
                container, list(argv), stdin=True, environment=dict(env), workdir=cwd
            ),
        )
        return str(answer["Id"])

    async def exec_inspect(self, exec_id: str) -> Mapping[str, Any]:
        answer = await self._ask("look at a process", lambda c: c.exec_inspect(exec_id))
        return cast("Mapping[str, Any]", answer)

    # Images.

    async def image(self, reference: str) -> Image | None:
        """An image that it has; `None` when it has not."""
        answer = await self._ask(
            f"look at image {reference}", _or_none(lambda c: c.inspect_image(reference))
        )
        return None if answer is None else read_image(answer)

    async def images(self) -> tuple[str, ...]:
        """The names of all that it has, sorted."""
        answer = await self._ask("list images", lambda c: c.images())
        tags = (tag for each in answer for tag in each.get("RepoTags") or ())
        return tuple(sorted(tag for tag in tags if not tag.startswith("<none>")))

    async def import_image(self, archive: bytes, repository: str, tag: str) -> None:
        await self._act(
            f"import image {repository}:{tag}",
            lambda c: c.import_image_from_data(archive, repository=repository, tag=tag),
        )

    # Networks.

    async def create_network(self, name: str, options: Mapping[str, str], label: str) -> None:
        key, _, value = label.partition("=")
        await self._act(
            f"create network {name}",
            lambda c: c.create_network(
                name, driver="bridge", options=options, labels={key: value}, check_duplicate=True
            ),
        )

    async def has_network(self, name: str) -> bool:
        answer = await self._ask(
            f"look at network {name}", _or_none(lambda c: c.inspect_network(name))
        )
        return answer is not None

    async def remove_network(self, name: str) -> None:
        await self._act(f"remove network {name}", _or_none(lambda c: c.remove_network(name)))

    # Registries.

    async def credentials(self, registry: str) -> Mapping[str, str] | None:
        """What this user's Docker configuration has for a registry: by `credHelpers`,
        `credsStore` or `auths`, read again each time. Raises ImageError when a helper fails, or
        does not answer."""
        return await anyio.to_thread.run_sync(
            credentials.find, registry, limiter=self._limiter, abandon_on_cancel=True
        )

    # Itself.

    async def info(self) -> Info:
        answer = await self._ask("ask what it is", lambda c: (c.info(), c.version()))
        return read_info(*answer)

    async def api_version(self) -> str:
        """The version of its API that is spoken."""
        return await self._ask("ask for its version", lambda c: str(c.api_version))

    # What all of them need.

    async def _ask(self, what: str, call: Callable[[Any], ResultT]) -> ResultT:
        return await self._in_thread(what, call, index=0)

    async def _act(self, what: str, call: Callable[[Any], ResultT]) -> ResultT:
        return await self._in_thread(what, call, index=1)

    async def _in_thread(self, what: str, call: Callable[[Any], ResultT], *, index: int) -> ResultT:
        def work() -> ResultT:
            with self._blame(what):
                self._knock()
                return call(self._client()[index])

        async with self._limiter:
            if index == 0:
                return await self._abandonable(work)
            with anyio.CancelScope(shield=True, deadline=self.patience) as scope:
                self._acts.add(scope)
                try:
                    return await self._abandonable(work)
                finally:
                    self._acts.discard(scope)
        raise EngineBusy(f"the worker closes, and does not wait for the engine to {what}")

    async def _abandonable(self, work: Callable[[], ResultT]) -> ResultT:
        return await anyio.to_thread.run_sync(work, limiter=self._free, abandon_on_cancel=True)

    def _knock(self) -> None:
        """Raise OSError when nobody listens, which says why: the SDK's own error wraps it twice."""
        if isinstance(self.address, UnixAddress):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(_ASK_SECONDS)
                sock.connect(self.address.path)

    def _client(self) -> tuple[Any, Any]:
        """One client that is patient and one that is not; made when the engine first answers."""
        with self._making:
            if self._clients is None:
                quick = self._connect("auto", _ASK_SECONDS)
                self._clients = (quick, self._connect(quick.api_version, self._act_seconds))
            return self._clients

    def _connect(self, version: str, seconds: float) -> Any:
        base = self.address
        url = f"tcp://{base.host}:{base.port}" if isinstance(base, TcpAddress) else str(base)
        options: dict[str, Any] = {
            "base_url": url,
            "version": version,
            "timeout": seconds,
            "max_pool_size": _THREADS,
        }
        with credentials.configured():
            client = cast("Any", docker.APIClient(**options))
        transport.mount(client, base, seconds, _THREADS)
        # Connections cost next to nothing, and those that wait for work cost a descriptor each.
        client.headers["Connection"] = "close"
        return client

    @contextmanager
    def _blame(self, what: str) -> Generator[None]:
        try:
            yield
        except docker.errors.APIError as exc:
            status = exc.status_code or 500
            reason = " ".join(str(exc.explanation or exc).split())
            raise Refused(f"cannot {what}: {reason}", status) from exc
        except requests.exceptions.Timeout as exc:
            message = f"the Docker engine at {self.address} takes too long to {what}"
            raise EngineBusy(message) from exc
        except (OSError, docker.errors.DockerException) as exc:
            # What the SDK raises of requests' is an OSError, too.
            raise EngineUnavailable(away(self.address, exc)) from exc


@contextmanager
def _get(client: Any, path: str, query: Mapping[str, str]) -> Generator[Any]:
    """What the engine streams, to its end or not. The SDK's own streams cannot be left early, have
    no deadline, and take what is cut off for whole."""
    url = f"{client.base_url}/v{client.api_version}{path}"
    with client.get(url, params=dict(query), stream=True, timeout=_ASK_SECONDS) as answer:
        try:
            answer.raise_for_status()
        except requests.exceptions.HTTPError as exc:
            docker.errors.create_api_error_from_http_exception(exc)
        yield answer


class Reference(NamedTuple):
    """An image's name, taken apart."""

    registry: str
    """With its port; `docker.io` when the name has none."""
    repository: str
    tag: str
    """A tag, or a digest with its `sha256:`."""


def parse_reference(text: str) -> Reference:
    """Without a tag, `latest` is meant: asked for none, an engine would pull them all. Raises
    ImageError."""
    try:
        repository, tag = docker.utils.parse_repository_tag(text)
        registry, _ = docker.auth.resolve_repository_name(repository)
    except docker.errors.DockerException as exc:
        raise ImageError(f"{text!r} is no image reference: {exc}") from exc
    if not repository or not re.fullmatch(r"[a-z0-9./:_-]+", repository):
        raise ImageError(f"{text!r} is no image reference: write registry/name:tag in lower case")
    return Reference(registry, repository, tag or "latest")


def away(address: UnixAddress | TcpAddress, exc: Exception) -> str:
    """What to tell an operator whose engine cannot be reached."""
    text = str(exc)
    reasons = ("No such file", "Permission denied", "Connection refused")
    reason = next((each for each in reasons if each in text), text)
    if reason == "No such file":
        reason = "there is no such socket"
    what = f"the Docker engine at {address} does not answer ({reason})"
    return f"{what}: start it, or set driver.address"


def _or_none(call: Callable[[Any], ResultT]) -> Callable[[Any], ResultT | None]:
    """`None` for what there is not."""

    def ask(client: Any) -> ResultT | None:
        try:
            return call(client)
        except docker.errors.NotFound:
            return None

    return ask
