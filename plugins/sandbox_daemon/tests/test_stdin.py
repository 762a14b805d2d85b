"""A process that does not read its input for long, with a patience that is short."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from longshore_daemon.inside.exchange import Exchange
from longshore_daemon.inside.http import Head
from longshore_daemon.inside.loop import Loop, Wait, pause
from longshore_daemon.inside.output import STDOUT
from longshore_daemon.inside.process import Command, Process
from longshore_daemon.inside.process_routes import ProcessRoutes
from longshore_daemon.inside.processes import Processes
from longshore_daemon.inside.store import Store
from longshore_daemon.inside.stream import Stream

PIPE = 65536
"""What a pipe takes before anybody reads."""


class Bench:
    """A process, and requests to write to it, in this process."""

    def __init__(self, directory: Path) -> None:
        self.loop = Loop()
        self.processes = Processes(self.loop, dict(os.environ), Store((str(directory),)))
        self._routes = ProcessRoutes(self.processes, stdin_seconds=0.2)

    def live(self, script: str, story: Callable[[Process], Awaitable[None]]) -> None:
        async def main() -> None:
            command = Command("sh", ["-c", script])
            command.stdin = True
            process = self.processes.spawn(command)
            try:
                await story(process)
                told.append(script)
            finally:
                process.kill()
                await self.wait_ended(process)

        told = list[str]()
        self.loop.run(main())
        assert told, "the story broke off: a loop lets no error out"

    async def wait_ended(self, process: Process) -> None:
        while process.running:
            self.processes.reap()
            await Wait(bells=(process.changed,), deadline=0.0)

    async def write(
        self, process: Process, body: bytes, length: int | None = None, *, knows: bool = True
    ) -> Any:
        """The answer to a request with this body, or only the begin of one of that length."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            head = Head("POST", "/", {"longshore-partial-input": "yes"} if knows else {})
            head.length = len(body) if length is None else length
            stream = Stream(theirs)
            stream.put_back(body)
            await self._routes.write_stdin(Exchange(stream, head), str(process.pid))
            told, _, content = ours.recv(65536).partition(b"\r\n\r\n")
        return told.decode(), json.loads(content) if content else None


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_what_it_has_taken_is_told_in_time(bench: Bench) -> None:
    async def story(process: Process) -> None:
        for taken in (PIPE, 0):
            head, content = await bench.write(process, bytes(100_000))
            assert head.startswith("HTTP/1.1 202 Accepted\r\n")
            assert f"\r\nLongshore-Bytes-Written: {taken}\r\n" in f"{head}\r\n"
            assert content == {"bytes_written": taken}
            assert "Connection: close" not in head

    bench.live("sleep 100", story)


def test_who_does_not_know_an_answer_in_part_waits_for_a_whole_one(bench: Bench) -> None:
    async def story(process: Process) -> None:
        head, content = await bench.write(process, bytes(100_000), knows=False)
        assert head.startswith("HTTP/1.1 204 ")
        assert content is None

    # For longer than others are left to wait.
    bench.live("sleep 0.5; exec cat >/dev/null", story)


def test_a_connection_with_a_body_that_was_not_read_ends(bench: Bench) -> None:
    async def story(process: Process) -> None:
        head, content = await bench.write(process, bytes(100_000), length=9_000_000)
        assert content == {"bytes_written": PIPE}
        assert head.endswith("Connection: close")

    bench.live("sleep 100", story)


def test_who_waits_for_another_writer_is_answered_in_time_as_well(bench: Bench) -> None:
    answers = list[Any]()

    async def write(process: Process) -> None:
        answers.append((await bench.write(process, bytes(100_000)))[1])

    async def story(process: Process) -> None:
        for _ in range(2):
            bench.loop.start(write(process))
        while len(answers) < 2:
            await pause()
        assert sorted(answer["bytes_written"] for answer in answers) == [0, PIPE]

    bench.live("sleep 100", story)


def test_who_sends_the_rest_again_and_again_delivers_all(bench: Bench) -> None:
    data = os.urandom(1 << 20)
    partly = list[int]()

    async def story(process: Process) -> None:
        rest = data
        while rest:
            head, content = await bench.write(process, rest)
            if head.startswith("HTTP/1.1 204"):
                break
            partly.append(content["bytes_written"])
            rest = rest[content["bytes_written"] :]
        assert process.stdin is not None
        process.stdin.close()
        await bench.wait_ended(process)
        with process.output.open() as reader:
            shown = reader.read(STDOUT, 0, reader.size(STDOUT))
        assert shown.split()[0].decode() == hashlib.sha256(data).hexdigest()

    bench.live("sleep 0.5; exec sha256sum", story)
    assert PIPE in partly
