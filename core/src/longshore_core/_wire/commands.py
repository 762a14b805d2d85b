"""What each command of the server leads to. Applied one at a time, in order, at least once."""

from __future__ import annotations

from typing import Final

import structlog
from longshore_proto import executor_api_pb2 as pb

from longshore_core._machine.life import Ending, TerminationReason
from longshore_core._machine.reports import SnapshotFailed
from longshore_core._model import ContainerId, ContainerKind
from longshore_core._wire import convert
from longshore_core._wire.convert import Malformed
from longshore_core._wire.desk import Desk

NO_SNAPSHOTS: Final = "snapshots not configured on this dataplane"

log = structlog.stdlib.get_logger("longshore_core.server_link")


class Commands:
    """Applies commands. On return, what a command asks for is on disk, or was refused aloud."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def apply(self, command: pb.Command) -> None:
        """Apply one command; what cannot be understood is reported, logged, and let go."""
        try:
            await self._apply(command)
        except Malformed as exc:
            log.error("Malformed command", seq=command.seq, reason=exc.reason, why=str(exc))  # noqa: TRY400  # the server's fault: no traceback of ours

    async def _apply(self, command: pb.Command) -> None:
        match command.WhichOneof("command"):
            case "add_container":
                await self._add(command.add_container)
            case "remove_container":
                await self._desk.unwant(ContainerId(command.remove_container.container_id))
            case "update_container_description":
                await self._update(command.update_container_description)
            case "snapshot_container":
                wanted = command.snapshot_container
                await self._desk.report(
                    SnapshotFailed(
                        container=ContainerId(wanted.container_id),
                        snapshot=wanted.snapshot_id,
                        message=NO_SNAPSHOTS,
                    )
                )
            case "run_allocation":
                allocation = command.run_allocation.allocation
                if not allocation.allocation_id:
                    raise Malformed("invalid_run_allocation", "the allocation has no id")
                await self._desk.report(convert.allocation_refused(allocation))
            case "kill_allocation":
                log.info("No such allocation", allocation=command.kill_allocation.allocation_id)
            case None:
                raise Malformed("missing_command_payload", "the command is empty")

    async def _add(self, add: pb.AddContainer) -> None:
        if not add.HasField("container"):
            raise Malformed("missing_container_payload", "there is no container in it")
        try:
            order = convert.order_of(add.container)
        except Malformed as exc:
            if not add.container.id:
                raise
            why = Ending(
                reason=TerminationReason.STARTUP_FAILED_INTERNAL_ERROR,
                message=str(exc),
                code="INVALID_REQUEST",
            )
            await self._desk.refuse(convert.nameless(add.container.id, add.container), why)
            return
        if order.kind is ContainerKind.FUNCTION:
            await self._desk.refuse(order, convert.unsupported_function(order))
        else:
            await self._desk.want(order)

    async def _update(self, update: pb.UpdateContainerDescription) -> None:
        container = self._desk.containers.get(ContainerId(update.container_id))
        if container is None:
            log.warning("Update of an unknown container", container_id=update.container_id)
            return
        await self._desk.amend(convert.amended(container.order, update.sandbox_metadata))
