"""The event loops of tests, for the fixture `anyio_backend`.

anyio's pytest plugin fails a test for an exception in any callback of its loop. Two libraries
raise harmless ones when tests end their loops in quick succession, in whichever test comes next:

- anyio's UNIX streams set the result of a wait that was cancelled in the same turn of the loop
  (`_RawSocketMixin._wait_until_readable`; for closing, it was mended: agronholm/anyio#1267);
- grpc.aio's poller, shared by all loops of a process, hands an answer to a loop that is closed
  (`PollerCompletionQueue._handle_events`).

A worker has one loop for all of its life, and logs what a callback raises.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final


class Loop(asyncio.SelectorEventLoop):
    """asyncio's own, deaf to those two."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        exception, handle = context.get("exception"), context.get("handle")
        if not _is_of_a_cancelled_wait(exception, handle) and not _is_of_a_late_answer(exception):
            super().call_exception_handler(context)


Backend = tuple[str, dict[str, object]]
ASYNCIO: Final[Backend] = ("asyncio", {"loop_factory": Loop})
TRIO: Final[Backend] = ("trio", {})


def _is_of_a_cancelled_wait(exception: BaseException | None, handle: Any) -> bool:
    if not isinstance(exception, asyncio.InvalidStateError):
        return False
    called = getattr(handle, "_callback", None)
    waited = getattr(called, "__self__", None)
    is_result = getattr(called, "__name__", None) == "set_result"
    return is_result and isinstance(waited, asyncio.Future) and waited.cancelled()


def _is_of_a_late_answer(exception: BaseException | None) -> bool:
    if not isinstance(exception, RuntimeError) or str(exception) != "Event loop is closed":
        return False
    traceback, names = exception.__traceback__, set[str]()
    while traceback is not None:
        names.add(traceback.tb_frame.f_code.co_name.rpartition(".")[2])
        traceback = traceback.tb_next
    return "_handle_events" in names
