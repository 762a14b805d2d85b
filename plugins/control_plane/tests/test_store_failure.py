"""A store that cannot be written to: callers hear of it, nothing half-done stays in memory."""

from __future__ import annotations

import itertools

import anyio
import pytest
from longshore_core import RequestError
from longshore_server._wire import convert
from longshore_server.changes import Changes
from longshore_server.index import Index
from longshore_server.model import (
    ExecutorRecord,
    FullState,
    Heartbeat,
    IdempotencyKey,
    Resources,
    SandboxRecord,
    SandboxSpec,
)
from longshore_server.plane import Timing, open_plane
from longshore_server.scheduler import Scheduler, World
from longshore_server.store.database import open_database
from longshore_server.store.rows import Loaded

DAY_MS = 24 * 60 * 60 * 1000


def sandbox(name):
    wanted = Resources(cpu_millis=1000)
    spec = SandboxSpec(image="i", resources=wanted, timeout_secs=0)
    return SandboxRecord(id=name, namespace="n", created_at_ms=1, spec=spec)


def joining(name):
    executor = ExecutorRecord(id=name, capacity=Resources(cpu_millis=1000))
    return Heartbeat(executor_id=name, full_state=FullState(executor=executor))


def refuse_writes(database, refused):
    connection = database.write.raw_connection()
    connection.cursor().execute(f"PRAGMA query_only = {'ON' if refused else 'OFF'}")
    connection.close()


async def recovered(plane):
    with anyio.fail_after(5):
        while not plane.is_writable:
            await anyio.lowlevel.checkpoint()


@pytest.fixture
async def database(tmp_path):
    opened = open_database(str(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
async def plane(database):
    world = World(now_ms=lambda: 5, seed=itertools.count().__next__, encode=convert.encode)
    async with open_plane(database, world, Timing()) as opened:
        yield opened


async def test_a_create_that_cannot_be_written_is_refused_and_forgotten(plane, database):
    await plane.heartbeat(joining("e"))
    await plane.create(sandbox("before"))
    refuse_writes(database, True)
    with pytest.raises(RequestError) as caught:
        await plane.create(sandbox("lost"))
    assert (caught.value.status, caught.value.code) == (503, "STORE_UNAVAILABLE")
    await recovered(plane)
    assert list(plane.index.live) == ["before"]
    refuse_writes(database, False)
    await plane.create(sandbox("after"))
    assert set(plane.index.live) == {"before", "after"}


async def test_memory_is_rebuilt_after_every_failure_not_only_the_first(plane, database):
    await plane.create(sandbox("kept"))
    for _ in range(2):
        refuse_writes(database, True)
        with pytest.raises(RequestError, match="cannot be written to"):
            await plane.delete("n", "kept")
        await recovered(plane)
        assert list(plane.index.live) == ["kept"]
        refuse_writes(database, False)
    assert await plane.delete("n", "kept")
    assert (await plane.reader.sandbox("kept")).status == "terminated"


async def test_an_executor_has_to_register_again_once_memory_was_rebuilt(plane, database):
    await plane.heartbeat(joining("e"))
    await plane.create(sandbox("s"))
    assert len(await plane.poll_commands("e", None)) == 1
    refuse_writes(database, True)
    with pytest.raises(RequestError):
        await plane.create(sandbox("lost"))
    await recovered(plane)
    refuse_writes(database, False)
    with pytest.raises(RequestError, match="executor not registered"):
        await plane.poll_commands("e", None)
    assert await plane.heartbeat(Heartbeat(executor_id="e"))
    await plane.heartbeat(joining("e"))
    assert plane.index.live["s"].executor_id == "e"
    assert len(await plane.poll_commands("e", None)) == 1


async def test_what_is_queued_behind_a_failed_turn_fails_with_it(plane, database):
    refuse_writes(database, True)
    failures = []

    async def create(name):
        try:
            await plane.create(sandbox(name))
        except RequestError as exc:
            failures.append(exc.code)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(create, str(number))
    assert failures == ["STORE_UNAVAILABLE"] * 5
    await recovered(plane)
    assert plane.index.live == {}


def test_idempotency_keys_are_forgotten_after_a_day():
    now = [DAY_MS]
    world = World(now_ms=lambda: now[0], seed=lambda: 0, encode=convert.encode)
    key = IdempotencyKey(namespace="n", key="k", digest="d", sandbox_id="s", created_at_ms=1)
    scheduler = Scheduler(Index(Loaded(keys=(key,)), 0), world)
    changes = Changes()
    scheduler.forget_keys(changes)
    assert scheduler.index.keys == {("n", "k"): key}
    now[0] += 10
    scheduler.forget_keys(changes)
    assert scheduler.index.keys == {}
    assert changes.keys_before_ms == 10
