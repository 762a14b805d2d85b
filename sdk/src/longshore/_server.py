"""What is asked of the server: sandboxes created, looked at, listed and deleted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode
from uuid import uuid4

from longshore._answers import sandbox_info
from longshore._calls import Call, Caller, Settings
from longshore._carrier import Carrier
from longshore._deadline import cleaning_up, remaining
from longshore._errors import SandboxError
from longshore._model import CreateOptions, SandboxInfo

CLEANUP_SECONDS: Final = 5.0
_WAIT_SECONDS: Final = 300.0
_GRACE_SECONDS: Final = 10.0
"""How much longer than the server's own wait we listen for what it says of it."""
_UNCLEAR: Final = frozenset({"CONNECTION_LOST", "TIMEOUT", "DEADLINE_EXCEEDED"})
"""After these, there may be a sandbox or not."""
_OPTIONS: Final = frozenset(CreateOptions.__optional_keys__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    sandboxes: tuple[SandboxInfo, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """A sandbox that is to be created, once, however often we ask for it."""

    body: bytes
    key: str
    key_is_ours: bool
    wait_seconds: float
    headers: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": self.key}
        object.__setattr__(self, "headers", headers)


class Server:
    """The routes of one namespace."""

    def __init__(self, carrier: Carrier, settings: Settings) -> None:
        self._carrier = carrier
        self._caller = Caller(carrier)
        self._url = f"{settings.api_url}/v1/namespaces/{quote(settings.namespace, '')}/sandboxes"
        key = settings.api_key
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    async def create(self, image: str | None, options: CreateOptions) -> SandboxInfo:
        """A sandbox that runs. One that does not come to that is deleted again."""
        wish = _wish(image, options)
        try:
            return await self._create(wish)
        except SandboxError as exc:
            if wish.key_is_ours and (exc.sandbox_id or exc.code in _UNCLEAR):
                work = self._discard(wish, exc.sandbox_id)
                await self._carrier.finally_do(work, CLEANUP_SECONDS)
            raise
        except BaseException:
            # Interrupted or cancelled: whether there is a sandbox, only the server knows.
            if wish.key_is_ours:
                await self._carrier.finally_do(self._discard(wish, None), CLEANUP_SECONDS)
            raise

    async def _create(self, wish: _Wish) -> SandboxInfo:
        wait = min(wish.wait_seconds, remaining())
        call = Call(
            method="POST",
            url=f"{self._url}?wait=true&wait_timeout_secs={wait:.3f}",
            phase="create",
            headers={**self._headers, **wish.headers},
            body=wish.body,
            silence_seconds=wait + _GRACE_SECONDS,
        )
        return sandbox_info((await self._caller.ask(call)).fields())

    async def _discard(self, wish: _Wish, sandbox_id: str | None) -> None:
        with cleaning_up(CLEANUP_SECONDS):
            try:
                await self._delete(sandbox_id or await self._find(wish))
            except SandboxError:
                # What is told is why it was not created. Left over, it ends with its lifetime.
                return

    async def _find(self, wish: _Wish) -> str:
        """The sandbox that there is for the key by now, without waiting until it runs."""
        headers = {**self._headers, **wish.headers}
        call = Call(
            method="POST",
            url=self._url,
            phase="create",
            headers=headers,
            body=wish.body,
            once=True,
        )
        return sandbox_info((await self._caller.ask(call)).fields()).id

    async def info(self, sandbox_id: str, *, once: bool = False) -> SandboxInfo:
        """Raises SandboxNotFoundError."""
        url = f"{self._url}/{quote(sandbox_id, '')}"
        call = Call(method="GET", url=url, phase="info", headers=self._headers, once=once)
        return sandbox_info((await self._caller.ask(call)).fields())

    async def page(self, status: str | None, cursor: str | None) -> Page:
        """Some sandboxes, the newest first, and where the next ones are."""
        given = {"status": status, "cursor": cursor}
        query = urlencode({name: value for name, value in given.items() if value is not None})
        call = Call(method="GET", url=f"{self._url}?{query}", phase="list", headers=self._headers)
        fields = (await self._caller.ask(call)).fields()
        found = tuple(sandbox_info(inner) for inner in fields.objects("sandboxes"))
        return Page(sandboxes=found, cursor=fields.get("cursor", str))

    async def delete(self, sandbox_id: str) -> None:
        """End it; again is no error. Raises SandboxNotFoundError for one that never was."""
        await self._delete(sandbox_id)

    async def _delete(self, sandbox_id: str) -> None:
        url = f"{self._url}/{quote(sandbox_id, '')}"
        call = Call(method="DELETE", url=url, phase="delete", headers=self._headers)
        await self._caller.ask(call)


def _wish(image: str | None, options: CreateOptions) -> _Wish:
    """Raises TypeError for options that there are not."""
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise TypeError(f"no option {unknown[0]!r}; known: {', '.join(sorted(_OPTIONS))}")
    key = options.get("idempotency_key")
    return _Wish(
        body=json.dumps(_body(image, options)).encode(),
        key=key or f"sdk-{uuid4().hex}",
        key_is_ours=key is None,
        wait_seconds=options.get("wait_seconds", _WAIT_SECONDS),
    )


def _body(image: str | None, options: CreateOptions) -> dict[str, Any]:
    body: dict[str, Any] = {"image": image, "timeout_secs": options.get("lifetime_seconds")}
    sizes = {name: options.get(name) for name in ("cpus", "memory_mb", "disk_mb")}
    if any(size is not None for size in sizes.values()):
        # To the server, what is left out besides something else is less than what is left out.
        usual = {"cpus": 1.0, "memory_mb": 1024, "disk_mb": 1024}
        body["resources"] = {**usual, **_given(sizes)}
    names = ("allow_internet_access", "allow_out", "deny_out")
    network = _given({name: options.get(name) for name in names})
    if network:
        body["network"] = network
    for name in ("name", "entrypoint", "secret_names"):
        body[name] = options.get(name)
    return {name: _listed(value) for name, value in _given(body).items()}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _listed(value) for name, value in values.items() if value is not None}


def _listed(value: Any) -> Any:
    return [*value] if isinstance(value, tuple) else value
