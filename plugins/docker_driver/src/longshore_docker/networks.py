"""Networks of containers: one of the worker's own, and namespaces that are kept ready in it.

More than half of a container's start is the making of its network namespace. So a few are made
beforehand, each held open by a *holder*, a container that does nothing; a container joins one, and
the holder is removed with it. A holder that has had a container is never used for another.

Holders come and go one by one: engines miscount a network's endpoints, or stand still for ever,
when many do so at once (moby/moby#42119). When the ready ones are gone, more are made, so that what
happens to many containers at once, such as their end, is nothing to the network.

Nothing is remembered that the engine does not know: `run` compares what there is with what there
should be, at every connection and whenever a container has come or gone. So a worker that was
killed leaves nothing that the next one does not find.
"""

from __future__ import annotations

import hashlib
import math
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import anyio
import anyio.to_thread
from longshore_core import JSON, Attachment, BackendError, EngineUnavailable, Host, pause

from longshore_docker.answers import JOINED, Container, Listed
from longshore_docker.config import Config
from longshore_docker.engine import Engine, EngineBusy, Refused
from longshore_docker.events import Ear, Events
from longshore_docker.firewall import Firewall
from longshore_docker.specification import NETWORK_ROLE, OWNER, ROLE

IMAGE: Final = "longshore/pause"
_HOLDER: Final = "longshore-network-"
_AGAIN_SECONDS: Final = 5.0
_CLOSE_PAUSE_SECONDS: Final = 0.1
_UNDO_SECONDS: Final = 8.0
_RETIRE_SECONDS: Final = 2.0
_ATTEMPTS: Final = 3
_HOLDER_PIDS: Final = 64
"""A holder is one; the OCI runtime is in there before it, with its threads, and dies of less."""
_RULES_SECONDS: Final = 30.0
"""How long rules are taken to be as they were seen. To look takes a tenth of a second."""
_LULL_SECONDS: Final = 0.3
"""Longer than a container takes to be made and started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Where a container is to be: a network of the engine, or a namespace that is ready."""

    mode: str
    holder: str | None = None


class Networks:
    """Hands out networks, and keeps some ready for as long as it is run."""

    def __init__(self, config: Config, host: Host, engine: Engine, events: Events) -> None:
        self._size = 0 if config.network == "none" else config.ready_networks
        self._owner = host.owner
        self._log = host.logger
        self._engine = engine
        self._events = events
        mark = hashlib.sha256(host.owner.encode()).hexdigest()[:8]
        self.name = config.network or f"longshore-{mark}"
        self._bridge = None if config.network else f"lsn{mark}"
        self._firewall = Firewall(self._bridge, config, host.logger) if self._bridge else None
        self._making = anyio.Lock()
        self._made = False
        self._setting = anyio.Lock()
        """While somebody sees to the rules, others wait for what comes of it."""
        self._set_at = (-math.inf, 0)
        """When the rules were last seen to: the time, and how often events had been cut off."""
        self._ready = list[str]()
        self._given = set[str]()
        self._growing = set[str]()
        """The names of holders that are being made."""
        self._young = set[str]()
        """And of all that were made since it was last looked at what there is."""
        self._one_by_one = anyio.Lock()
        """Held while an endpoint comes or goes."""
        self._holders = dict[str, Container]()
        """As they were when they had been started: nothing of them that is asked for changes."""
        self._image: str | None = None
        self._ear = Ear()
        self._taken = -_LULL_SECONDS
        """When one was last asked for."""
        self._cuts = 0
        """Of the engine's events, when it was last looked at what is ready."""

    @property
    def label(self) -> str:
        return f"{OWNER}={self._owner}"

    async def take(self) -> Network:
        """A network for a container that is about to be made. To be settled, or given back."""
        self._taken = anyio.current_time()
        await self._set_rules()
        if self._ready and self._is_sure:
            holder = self._ready.pop(0)
            self._given.add(holder)
            self._ear.tell()
            return Network(mode=JOINED + holder, holder=holder)
        if not self._size:
            await self._ensure()
            return Network(mode=self.name)
        holder = await self._hold_at_last()
        self._given.add(holder)
        return Network(mode=JOINED + holder, holder=holder)

    def settle(self, network: Network) -> None:
        """Its container is made, or may be: from now on the engine knows whose it is."""
        self._given.discard(network.holder or "")

    def give_back(self, network: Network) -> None:
        """For sure, nobody has used it."""
        if network.holder:
            self._given.discard(network.holder)
            if len(self._ready) < self._size:
                self._ready.insert(0, network.holder)
            else:
                # One that was made because none was ready; by now, enough are.
                self._ear.tell()

    async def mend(self) -> None:
        """Have the network that containers without a holder are in, whatever has become of it."""
        self._forget()
        await self._ensure()

    async def release(self, holder: str, *, begun: bool = True) -> None:
        """Remove the holder of a container that is removed. What cannot be done now is done when
        the engine is back. `begun`: it is known to have run."""
        self._given.discard(holder)
        self._holders.pop(holder, None)
        with suppress(BackendError):
            async with self._one_by_one:
                await self._engine.remove(holder, begun=begun)

    async def holder(self, container: Container) -> Container | None:
        """The holder of a container's network; `None`: it has one of its own."""
        if not container.holder:
            return None
        return self._holders.get(container.holder) or await self._engine.inspect(container.holder)

    async def run(self) -> None:
        """Keep as many ready as there should be, and nothing else. Never ends by itself."""
        with self._events.listening(self._owner) as self._ear:
            while True:
                patience = math.inf
                try:
                    await self._lull()
                    # First: what runs, runs on while the engine is away.
                    await self._set_rules()
                    await self._tidy()
                    await self._fill()
                except EngineUnavailable:
                    # That it is back is heard of; not that it was only slow.
                    patience = _AGAIN_SECONDS
                except BackendError as exc:
                    self._log.warning("docker_network_not_ready", extra={"why": str(exc)})
                    await anyio.sleep(_AGAIN_SECONDS)
                    continue
                # Nobody tells of rules that are gone.
                with anyio.move_on_after(min(patience, self._rules_hold())):
                    await self._ear.wait()

    async def close(self) -> None:
        """Remove what is ready and unused, and the network when nobody is in it, for as long as
        the engine is waited for. What is left is the next worker's to find."""
        with anyio.CancelScope(shield=True, deadline=self._engine.patience) as late:
            # A busy engine may refuse at first: what it removes at the moment is still there.
            while not await self._has_gone():  # noqa: ASYNC110 -- nobody tells
                await anyio.sleep(_CLOSE_PAUSE_SECONDS)
        if late.cancelled_caught:
            self._log.warning("docker_network_left", extra={"network": self.name})
        if self._firewall:
            # Also when the engine took all of the time: this asks it nothing.
            with anyio.move_on_after(_RETIRE_SECONDS, shield=True), suppress(BackendError):
                await self._firewall.retire()

    async def _has_gone(self) -> bool:
        """Remove what nobody needs; whether there was nothing left of it, or nobody to ask."""
        try:
            # Also those whose release was under way; none of them keeps the rest from going.
            listed = await self._engine.labelled(self.label)
            joined = _joined(listed)
            unused = [each for each in listed if _is_holder(each) and each.id not in joined]
            for holder in unused:
                await self.release(holder.id, begun=holder.is_running)
            if self._firewall and len(listed) == len(unused):
                await self._engine.remove_network(self.name)
        except BackendError as exc:
            self._log.debug("docker_network_not_gone", extra={"why": str(exc)})
            return not isinstance(exc, Refused | EngineBusy)
        return not unused

    # Keeping.

    def _forget(self) -> None:
        """Something that was there is not, as it seems: look before it is used again."""
        self._made, self._image = False, None

    @property
    def _is_sure(self) -> bool:
        """Whether what is ready is so still: an engine that stops may end its containers."""
        return self._cuts == self._events.cuts

    async def _lull(self) -> None:
        """Wait until nobody makes a container, as long as some networks are left, or who finds none
        makes one himself: what is done for the next ones would slow this one down."""
        while self._is_sure and (len(self._ready) > self._size // 4 or self._growing):
            rest = self._taken + _LULL_SECONDS - anyio.current_time()
            if rest <= 0:
                break
            await anyio.sleep(rest)

    async def _tidy(self) -> None:
        """Remove holders that hold nothing: of an earlier worker, or whose container is gone."""
        cuts, ours = self._events.cuts, {*self._ready, *self._given}
        self._young = set(self._growing)
        listed = await self._engine.labelled(self.label)
        # Given out meanwhile, to a container that was not there yet when the engine looked.
        ours |= self._given
        holders = {
            each.id: each for each in listed if _is_holder(each) and each.name not in self._young
        }
        joined = _joined(listed)
        free = {id_ for id_, each in holders.items() if each.is_running} - joined
        self._ready = [holder for holder in self._ready if holder in free]
        self._cuts = cuts
        for holder in holders.keys() - (ours & free) - joined:
            await self.release(holder, begun=holders[holder].is_running)

    async def _fill(self) -> None:
        while len(self._ready) < self._size:
            await self._lull()
            self._ready.append(await self._hold())

    async def _hold_at_last(self) -> str:
        """Somebody may have removed our network, or the image: they are made again. And of many
        containers, an engine now and then fails to start one; a holder is as good as the next."""
        for _ in range(_ATTEMPTS - 1):
            with suppress(Refused):
                return await self._hold()
        return await self._hold()

    async def _hold(self) -> str:
        """Make a holder and start it; the answer is its id."""
        await self._ensure()
        image = await self._pause_image()
        name = _HOLDER + uuid4().hex[:12]
        body: dict[str, JSON] = {
            "Image": image,
            "Entrypoint": [pause.PROGRAM],
            "Labels": {OWNER: self._owner, ROLE: NETWORK_ROLE},
            "HostConfig": {
                "NetworkMode": self.name,
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "ReadonlyRootfs": True,
                "PidsLimit": _HOLDER_PIDS,
                "LogConfig": {"Type": "none"},
            },
        }
        self._growing.add(name)
        self._young.add(name)
        held = name
        try:
            held = (await self._engine.create(name, body)).id
            async with self._one_by_one:
                await self._engine.start(name)
            made = await self._engine.inspect(held)
            if made is None:
                raise BackendError(f"the network holder {name} is gone", retryable=True)
        except BaseException:
            self._forget()
            with anyio.move_on_after(_UNDO_SECONDS, shield=True):
                await self.release(held, begun=False)
            # One that could not be removed in time, and never started, is heard of from nobody.
            self._ear.tell()
            raise
        finally:
            self._growing.discard(name)
        self._holders[made.id] = made
        return made.id

    async def _pause_image(self) -> str:
        async with self._making:
            return self._image or await self._import_image()

    async def _import_image(self) -> str:
        archive = pause.image((await self._engine.info()).machine)
        tag = hashlib.sha256(archive).hexdigest()[:12]
        if await self._engine.image(f"{IMAGE}:{tag}") is None:
            await self._engine.import_image(archive, IMAGE, tag)
        self._image = f"{IMAGE}:{tag}"
        return self._image

    async def _ensure(self) -> None:
        """Have our network, closed. One that the config names is the operator's."""
        if self._bridge is None or self._firewall is None:
            return
        # Two at once would make two of one name.
        async with self._making:
            await self._set_rules()
            if not self._made and not await self._engine.has_network(self.name):
                options = {
                    "com.docker.network.bridge.name": self._bridge,
                    "com.docker.network.bridge.enable_icc": "false",
                }
                await self._engine.create_network(self.name, options, self.label)
            if not self._made:
                self._firewall.look_for_bridge()
            self._made = True

    async def _set_rules(self) -> None:
        """Whoever keeps other rules of the host may have taken ours away with theirs."""
        if self._firewall is None or self._rules_hold() > 0:
            return
        async with self._setting:
            if self._rules_hold() <= 0:
                at = anyio.current_time(), self._events.cuts
                await self._firewall.set()
                self._set_at = at

    def _rules_hold(self) -> float:
        """For how many seconds more the rules are taken to be in force."""
        if self._firewall is None:
            return math.inf
        at, cuts = self._set_at
        return at + _RULES_SECONDS - anyio.current_time() if cuts == self._events.cuts else 0.0


def _is_holder(listed: Listed) -> bool:
    return listed.labels.get(ROLE) == NETWORK_ROLE


def _joined(listed: Sequence[Listed]) -> set[str]:
    return {
        each.network_mode.removeprefix(JOINED)
        for each in listed
        if each.network_mode.startswith(JOINED)
    }


async def attachment_of(
    container: Container, holder: Container | None, *, local: bool
) -> Attachment:
    """Where a container that runs is on the network: its holder knows, when it has one."""
    in_it = holder or container
    interface = await anyio.to_thread.run_sync(host_interface, in_it.pid) if local else None
    return Attachment(
        addresses=in_it.addresses, interface=interface, netns=in_it.netns if local else None
    )


def host_interface(pid: int) -> str | None:
    """The host's end of a process's `eth0`; `None` when it has none."""
    try:
        # Mounted by the OCI runtime, before anything of the container ran.
        index = int(Path(f"/proc/{pid}/root/sys/class/net/eth0/iflink").read_text())
        return socket.if_indextoname(index)
    except (OSError, ValueError):
        return None
