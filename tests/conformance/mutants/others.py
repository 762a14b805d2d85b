"""Networks, registries, middlewares and guests that are broken on purpose."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import longshore_daemon
from longshore_core import (
    Attachment,
    ContainerId,
    ContainerSpec,
    Facts,
    GuestError,
    Host,
    Launch,
    NetworkPolicy,
    NetworkPolicyError,
    Plug,
    Reach,
)
from longshore_core._builtin.static_registry import Config as StaticConfig
from longshore_core._builtin.static_registry import StaticRegistry
from longshore_core.abc import (
    Credentials,
    Flow,
    Guest,
    Layer,
    NetworkEnforcer,
    Outcome,
    RequestHead,
    ResponseHead,
    Session,
)
from pydantic import BaseModel

from tests.conformance.mutants.planting import MUTANTS, Mutant

PlantedT = TypeVar("PlantedT")


class Nothing(BaseModel, extra="forbid"):
    """A config without keys."""


def planted(
    kind: str, law: str, why: str, thing: Callable[[], Any]
) -> Callable[[PlantedT], PlantedT]:
    """Plant what `thing` makes, under the name of what is decorated."""

    def plant(named: PlantedT) -> PlantedT:
        @asynccontextmanager
        async def open_(_config: Nothing, _host: Host) -> AsyncGenerator[Any]:
            yield thing()

        plug = Plug(config=Nothing, open=open_)
        MUTANTS[getattr(named, "__name__", "")] = Mutant(kind=kind, law=law, why=why, plug=plug)
        return named

    return plant


def network(law: str, why: str) -> Callable[[type[PlantedT]], type[PlantedT]]:
    return lambda cls: planted("network", law, why, cls)(cls)


def registry(law: str, why: str) -> Callable[[type[StaticRegistry]], type[StaticRegistry]]:
    config = StaticConfig.model_validate(
        {"url": "registry.example", "repository": "r", "username": "u", "password": "secret"}
    )
    return lambda cls: planted("registry", law, why, lambda: cls(config))(cls)


def flowing(law: str, why: str) -> Callable[[Callable[[RequestHead], Flow]], Any]:
    return lambda flow: planted("middleware", law, why, lambda: Layer(flow=flow))(flow)


def admitting(law: str, why: str) -> Callable[..., Any]:
    return lambda admit: planted("middleware", law, why, lambda: Layer(admit=admit))(admit)


# Networks.


class Admits(NetworkEnforcer):
    async def admit(
        self, container: ContainerId, attachment: Attachment, policy: NetworkPolicy
    ) -> None:
        if policy != NetworkPolicy():
            raise NetworkPolicyError("no")

    async def revoke(self, container: ContainerId) -> None:
        """Nothing was put in force."""


@network("NE1", "KeyError: 'chain'")
class RaisesWhateverItMeets(Admits):
    async def admit(self, *_: object) -> None:
        raise KeyError("chain")


@network("NE1", "refused without a reason")
class RefusesWithoutAReason(Admits):
    async def admit(self, *_: object) -> None:
        raise NetworkPolicyError("")


@network("NE2", "a policy that denies 'not-an-address' was admitted")
class AdmitsWhatIsNoAddress(Admits):
    async def admit(self, *_: object) -> None:
        await anyio.lowlevel.checkpoint()


@network("NE3", "was admitted once and refused once")
class AdmitsOnlyOnce(Admits):
    def __init__(self) -> None:
        self.admitted = set[ContainerId]()

    async def admit(self, container: ContainerId, *_: object) -> None:
        if container in self.admitted:
            raise NetworkPolicyError("the chain exists")
        self.admitted.add(container)


@network("NE4", "KeyError")
class RevokesOnlyWhatItKnows(AdmitsOnlyOnce):
    async def revoke(self, container: ContainerId) -> None:
        self.admitted.remove(container)


# Registries.


@registry("RG1", "references of one snapshot")
class NamesAnew(StaticRegistry):
    def reference(self, sandbox: str, snapshot: str) -> str:
        return f"{super().reference(sandbox, snapshot)}-{os.urandom(4).hex()}"


@registry("RG2", "references of 9 snapshots")
class ForgetsTheSandbox(StaticRegistry):
    def reference(self, sandbox: str, snapshot: str) -> str:
        return super().reference("", snapshot)


@registry("RG3", "is no image reference")
class NamesInCapitals(StaticRegistry):
    def reference(self, sandbox: str, snapshot: str) -> str:
        return super().reference(sandbox, snapshot).upper()


@registry("RG4", "it does not own registry.example/r")
class OwnsNothing(StaticRegistry):
    def owns(self, reference: str) -> bool:
        return False


@registry("RG4", "it owns 'alpine'")
class OwnsEverything(StaticRegistry):
    def owns(self, reference: str) -> bool:
        return True


@registry("RG4", "it owns what begins alike")
class OwnsWhatBeginsAlike(StaticRegistry):
    def owns(self, reference: str) -> bool:
        return reference.startswith(self._base)


@registry("RG5", "credentials, asked for again")
class ChangesItsPassword(StaticRegistry):
    async def credentials(self) -> Credentials | None:
        return Credentials(username="u", password=os.urandom(8).hex())


@dataclass(frozen=True)
class _Open(Credentials):
    def __repr__(self) -> str:
        return f"{self.username}:{self.password}"


@registry("RG5", "the password shows in a repr")
class ShowsItsPassword(StaticRegistry):
    async def credentials(self) -> Credentials | None:
        return _Open(username="u", password="secret")


# Middlewares.


@flowing("MW1", "a flow asked further in twice")
def asks_twice(request: RequestHead) -> Flow:
    yield request
    return (yield request)


@flowing("MW1", "which is no response")
def answers_nothing(request: RequestHead) -> Iterator[Any]:
    yield request


@flowing("MW1", "a flow asked further in with None")
def asks_with_nothing(request: RequestHead) -> Iterator[Any]:
    return (yield None)


@flowing("MW2", "the heads after a flow")
def changes_what_it_was_given(request: RequestHead) -> Flow:
    response = yield request
    response._raw = response._raw.replace(b"\r\n\r\n", b"\r\nX-Seen: 1\r\n\r\n")
    return response


_turns = itertools.count()


@flowing("MW3", "3 different answers")
def answers_anew(request: RequestHead) -> Flow:
    response = yield request
    return response.with_((b"X-Turn", b"%d" % next(_turns)))


@flowing("MW4", "a flow takes .* ms; the proxy waits for it")
def takes_its_time(request: RequestHead) -> Flow:
    time.sleep(0.006)
    return (yield request)


@admitting("MW5", "was not done within")
async def never_answers(_request: RequestHead) -> None:
    await anyio.sleep_forever()


@admitting("MW5", "which is no whole answer")
async def answers_by_half(_request: RequestHead) -> ResponseHead | None:
    return ResponseHead(b"HTTP/1.1 200 OK\r\n\r\n")


def _fails_when_told(_outcome: Outcome) -> None:
    raise KeyError("metric")


@planted("middleware", "MW6", "KeyError: 'metric'", lambda: Layer(done=_fails_when_told))
class FailsWhenItIsTold:
    """Of the end of a request."""


# Guests.


class _Session(Session):
    def __init__(self, inner: Session) -> None:
        self.inner = inner
        self.released = False

    async def health(self) -> None:
        await self.inner.health()

    async def go(self, launch: Launch) -> None:
        await self.inner.go(launch)
        self.released = True

    async def stop(self) -> None:
        await self.inner.stop()

    async def aclose(self) -> None:
        await self.inner.aclose()


class Passes(Guest):
    """The daemon, passed through."""

    session: type[_Session] = _Session

    def __init__(self, inner: Guest) -> None:
        self.inner = inner

    def launch(self, spec: ContainerSpec, facts: Facts) -> ContainerSpec:
        return self.inner.launch(spec, facts)

    async def connect(self, reach: Reach) -> Session:
        return self.session(await self.inner.connect(reach))


GuestT = TypeVar("GuestT", bound=Passes)


def guest(law: str, why: str) -> Callable[[type[GuestT]], type[GuestT]]:
    def plant(cls: type[GuestT]) -> type[GuestT]:
        @asynccontextmanager
        async def open_(config: longshore_daemon.Config, host: Host) -> AsyncGenerator[Guest]:
            hasty = config.model_copy(update={"start_timeout_secs": 5.0})
            async with longshore_daemon.open_daemon(hasty, host) as daemon:
                yield cls(daemon)

        plug = Plug(config=longshore_daemon.Config, open=open_)
        MUTANTS[cls.__name__] = Mutant(kind="guest", law=law, why=why, plug=plug)
        return cls

    return plant


@guest("G1", "the same, launched again")
class LaunchesDifferently(Passes):
    def launch(self, spec: ContainerSpec, facts: Facts) -> ContainerSpec:
        launched = super().launch(spec, facts)
        return replace(launched, env={**launched.env, "SEED": os.urandom(4).hex()})


@guest("G1", "what it may not change")
class DropsTheLabels(Passes):
    def launch(self, spec: ContainerSpec, facts: Facts) -> ContainerSpec:
        return replace(super().launch(spec, facts), labels={})


@guest("G1", "env was changed")
class DropsWhatWasAskedFor(Passes):
    def launch(self, spec: ContainerSpec, facts: Facts) -> ContainerSpec:
        return replace(super().launch(spec, facts), env={})


@guest("G2", "connecting to nothing")
class ConnectsToNothing(Passes):
    async def connect(self, reach: Reach) -> Session:
        return _Session(self.inner)  # type: ignore[arg-type]  # it is asked for nothing


@guest("G3", "it is busy")
class IsUnwellOnceReleased(Passes):
    class session(_Session):  # noqa: N801
        async def health(self) -> None:
            if self.released:
                raise GuestError("it is busy")


@guest("G4", "a second launch, of another token")
class TakesAnyLaunch(Passes):
    class session(_Session):  # noqa: N801
        async def go(self, launch: Launch) -> None:
            await self.inner.go(replace(launch, token="one", env={"A": "b"}))


@guest("G5", "was not done within")
class DoesNotStop(Passes):
    class session(_Session):  # noqa: N801
        async def stop(self) -> None:
            await anyio.lowlevel.checkpoint()


@guest("G6", "GuestError")
class EndsWhenItIsLetGo(Passes):
    class session(_Session):  # noqa: N801
        async def aclose(self) -> None:
            await self.inner.stop()
            with anyio.fail_after(10), suppress(GuestError):
                while True:
                    await self.inner.health()
