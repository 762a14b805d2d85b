"""Whose a container is. Handles name it; the engine's labels say the rest."""

from __future__ import annotations

from typing import Final

from longshore_core import BackendError, ContainerId, ContainerSpec, Handle, Phase

from longshore_podman.answers import Container
from longshore_podman.engine import Engine
from longshore_podman.specification import ID, NETWORK, OWNER, PREFIX, SPEC, digest, name_of

SCHEMA: Final = 1
"""Of our handles."""


class Lookup:
    """Finds one owner's containers, and never takes another's for one of them."""

    def __init__(self, engine: Engine, owner: str) -> None:
        self._engine = engine
        self._owner = owner

    def handle(self, id_: ContainerId) -> Handle:
        return Handle(id=id_, schema=SCHEMA)

    def owns(self, container: Container) -> bool:
        """Labels alone do not say so: an image that was made of one of ours has them too, and so
        has whatever somebody runs from that."""
        name = PREFIX + container.labels.get(ID, "")
        return container.labels.get(OWNER) == self._owner and container.name == name

    async def named(self, id_: ContainerId) -> Container | None:
        """Whatever has the name, whoever owns it."""
        return await self._engine.container(name_of(id_))

    async def own(self, handle: Handle) -> Container | None:
        """Raises BackendError for a handle of another schema."""
        if handle.schema != SCHEMA:
            raise BackendError(
                f"the handle of container {handle.id} has schema {handle.schema}; this driver "
                f"knows {SCHEMA}"
            )
        container = await self.named(handle.id)
        return container if container is not None and self.owns(container) else None

    async def running(self, handle: Handle) -> Container:
        """Raises BackendError for one that does not run."""
        container = await self.own(handle)
        if container is None or container.phase is not Phase.RUNNING:
            raise BackendError(f"container {handle.id} does not run")
        return container


def owner_of(container: Container) -> str:
    """In words."""
    owner = container.labels.get(OWNER)
    return f"the worker {owner}" if owner else "somebody else"


def is_stale(container: Container, spec: ContainerSpec) -> bool:
    """Whether it is left over from another life of its id. What runs is in the middle of one."""
    return container.phase is not Phase.RUNNING and container.labels.get(SPEC) != digest(spec)


def network_of(container: Container) -> int | None:
    """The number of the namespace that it has joined."""
    text = container.labels.get(NETWORK, "")
    return int(text) if text.isdecimal() else None
