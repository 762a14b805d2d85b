from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from longshore_core import BackendError, ConfigError, ContainerId
from longshore_core._machine.life import Ending, TerminationReason
from longshore_core._machine.reports import ContainerStarted, ContainerTerminated, Numbered
from longshore_core._worker.store import Changes, open_store
from longshore_core.testing.samples import LIVES, ORDER, container


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.tag)
async def test_every_state_comes_back_as_it_was(life, tmp_path: Path) -> None:
    order = replace(ORDER, description=b"\x00\xff raw")
    before = replace(container(life), order=order, token="secret")
    async with open_store(tmp_path / "s.sqlite") as store:
        await store.commit(Changes(put={before.id: before}))
    async with open_store(tmp_path / "s.sqlite") as store:
        assert (await store.remembered()).containers == {before.id: before}


async def test_reports_come_back_in_order_and_numbers_are_never_used_again(tmp_path: Path) -> None:
    why = Ending(reason=TerminationReason.OOM, message="m", code="C")
    ended = ContainerTerminated(container=ContainerId("b"), incarnation=2, why=why)
    reports = [
        Numbered(number=1, report=ContainerStarted(container=ContainerId("a"))),
        Numbered(number=2, report=ended),
    ]
    async with open_store(tmp_path / "s.sqlite") as store:
        await store.commit(Changes(report=reports))
        assert (await store.remembered()).reports == reports
        await store.commit(Changes(delivered=frozenset({1, 2})))
        remembered = await store.remembered()
    assert remembered.reports == []
    assert remembered.last_number == 2


async def test_a_forgotten_container_is_gone(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s.sqlite") as store:
        await store.commit(Changes(put={ContainerId("c1"): container(LIVES[0])}))
        await store.commit(Changes(forget=frozenset({ContainerId("c1")})))
        assert (await store.remembered()).containers == {}


async def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "s.sqlite"
    file.write_bytes(b"this is not a database, it is a text" * 100)
    with pytest.raises(ConfigError, match=r"cannot use .*s\.sqlite: file is not a database"):
        async with open_store(file):
            pytest.fail("it opened")


async def test_a_row_that_cannot_be_read_is_never_dropped(tmp_path: Path) -> None:
    file = tmp_path / "s.sqlite"
    async with open_store(file) as store:
        await store.commit(Changes(put={ContainerId("c1"): container(LIVES[0])}))
    with sqlite3.connect(file) as raw:
        raw.execute("UPDATE container SET record = '{}'")
    raw.close()
    async with open_store(file) as store:
        with pytest.raises(ConfigError, match="holds a record that cannot be read"):
            await store.remembered()


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.sqlite"
    with sqlite3.connect(file) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(ConfigError, match="has schema 99, this Longshore reads up to 1"):
        async with open_store(file):
            pytest.fail("it opened")


async def test_what_cannot_be_written_is_a_retryable_error(tmp_path: Path) -> None:
    file = tmp_path / "s.sqlite"
    async with open_store(file) as store:
        holder = sqlite3.connect(file, isolation_level=None)
        store._connection.execute("PRAGMA busy_timeout = 1")
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BackendError, match="database is locked") as caught:
            await store.commit(Changes(put={ContainerId("c1"): container(LIVES[0])}))
        assert caught.value.retryable
        holder.execute("ROLLBACK")
        holder.close()
        assert (await store.remembered()).containers == {}


WRITER = """
    import sys, anyio
    from pathlib import Path
    from dataclasses import replace
    from longshore_core import ContainerId
    from longshore_core._worker.store import Changes, open_store
    from longshore_core.testing.samples import LIVES, ORDER, container

    async def main():
        async with open_store(Path(sys.argv[1])) as store:
            for turn in range(100000):
                # Two rows a turn, always equal: a torn commit would show.
                rows = {}
                for name in ("a", "b"):
                    order = replace(ORDER, id=ContainerId(name), namespace=str(turn))
                    rows[order.id] = replace(container(LIVES[0]), order=order)
                await store.commit(Changes(put=rows))
                print(turn, flush=True)
    anyio.run(main)
"""


@pytest.mark.parametrize("turns", [1, 7, 40])
async def test_killed_at_any_point_it_opens_to_the_old_state_or_the_new(
    turns: int, tmp_path: Path
) -> None:
    file = tmp_path / "s.sqlite"
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(turns)][-1]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
    async with open_store(file) as store:
        found = (await store.remembered()).containers
    turns_found = {item.order.namespace for item in found.values()}
    assert len(turns_found) == 1
    assert int(turns_found.pop()) in (acknowledged, acknowledged + 1)


@given(st.lists(st.sampled_from(LIVES), max_size=8))
@settings(max_examples=20, deadline=None)
def test_a_put_replaces_the_whole_row(lives: list) -> None:
    import anyio

    async def main() -> None:
        with TemporaryDirectory() as place:
            await put_all(Path(place) / "s.sqlite")

    async def put_all(file: Path) -> None:
        async with open_store(file) as store:
            for life in lives:
                await store.commit(Changes(put={ContainerId("c1"): container(life)}))
            expected = {ContainerId("c1"): container(lives[-1])} if lives else {}
            assert (await store.remembered()).containers == expected

    anyio.run(main)


async def test_what_is_stored_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "worker.sqlite"
    async with open_store(file) as store:
        await store.commit(Changes(put={ContainerId("c1"): container(LIVES[0])}))
        modes = {entry.stat().st_mode & 0o777 for entry in tmp_path.iterdir()}
    assert modes == {0o600}


async def test_a_report_written_twice_is_one_report(tmp_path: Path) -> None:
    """As when a commit was done, and said that it was not."""
    report = Numbered(number=1, report=ContainerStarted(container=ContainerId("c1")))
    async with open_store(tmp_path / "s.sqlite") as store:
        await store.commit(Changes(report=[report]))
        await store.commit(Changes(report=[report]))
        assert (await store.remembered()).reports == [report]
