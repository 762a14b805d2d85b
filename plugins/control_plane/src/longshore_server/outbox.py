"""Committed commands on their way to one executor: delivered until acknowledged, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import anyio

from longshore_server.model import Queued

REPLY_BYTES: Final = 8 * 1024 * 1024


class Outbox:
    """The commands of one epoch: from one full state of the executor to the next."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.closed = False
        self.changed = anyio.Event()
        """Set once, when there is something new to see; then replaced."""
        self._commands: deque[Queued] = deque()
        self._delivered = 0
        self._seen: int | None = None

    def extend(self, commands: Iterable[Queued]) -> None:
        """Take in committed commands and wake who waits for them."""
        self._commands.extend(commands)
        self._wake()

    def close(self) -> None:
        """Its epoch is over: who waits is to come again. Idempotent."""
        self.closed = True
        self._commands.clear()
        self._wake()

    def acknowledge(self, seq: int | None) -> list[Queued]:
        """Drop what the executor has taken charge of; the answer is what was dropped.

        An acknowledgement of what was never delivered is one of an earlier epoch, still under way
        when the full state ended it: it says nothing here.
        """
        if seq is not None and seq > self._delivered:
            return []
        self._seen = seq
        done: list[Queued] = []
        while seq is not None and self._commands and self._commands[0].seq <= seq:
            done.append(self._commands.popleft())
        return done

    def regressed(self, seq: int | None) -> bool:
        """Whether the executor acknowledges less than before: it has lost its memory."""
        return self._seen is not None and (seq is None or seq < self._seen)

    def batch(self, most: int = REPLY_BYTES) -> list[bytes]:
        """All that waits, up to `most` bytes; at least one when there is one."""
        payloads: list[bytes] = []
        size = 0
        for command in self._commands:
            # Of each: its tag, and at most five bytes of length.
            size += len(command.payload) + 6
            if payloads and size > most:
                break
            payloads.append(command.payload)
            self._delivered = max(self._delivered, command.seq)
        return payloads

    def _wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()
