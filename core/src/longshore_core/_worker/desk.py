"""The keeper as the server's link sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from longshore_core._machine.life import Container, Ending, Order, Unwanted, Wanted
from longshore_core._machine.reports import Numbered, Report
from longshore_core._model import ContainerId
from longshore_core._worker.keeper import Keeper
from longshore_core._worker.mail import Refusal, Taken, Wish
from longshore_core._worker.routes import RouteFeed


class KeepersDesk:
    """Turns the link's calls into the keeper's mail. Each returns when it is committed."""

    def __init__(self, keeper: Keeper, routes: RouteFeed) -> None:
        self._keeper = keeper
        self._routes = routes

    @property
    def containers(self) -> Mapping[ContainerId, Container]:
        return self._keeper.containers

    @property
    def reports(self) -> Sequence[Numbered]:
        return self._keeper.reports

    async def want(self, order: Order) -> None:
        await self._keeper.submit(Wish(container=order.id, event=Wanted(order=order)))

    async def amend(self, order: Order) -> None:
        event = Wanted(order=order)
        await self._keeper.submit(Wish(container=order.id, event=event, begins=False))

    async def unwant(self, container: ContainerId) -> None:
        event = Unwanted(message="the server asked for its removal")
        await self._keeper.submit(Wish(container=container, event=event))

    async def refuse(self, order: Order, why: Ending) -> None:
        await self._keeper.submit(Refusal(order=order, why=why))

    async def report(self, report: Report) -> None:
        await self._keeper.submit(report)

    async def taken(self, numbers: frozenset[int]) -> None:
        if numbers:
            await self._keeper.submit(Taken(numbers=numbers))

    async def published(self) -> None:
        await self._routes.settled()

    async def changed(self) -> None:
        await self._keeper.changed()
