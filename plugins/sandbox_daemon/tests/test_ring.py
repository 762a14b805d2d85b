from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from longshore_core import ContainerId, ContainerSpec, Facts
from longshore_daemon import Options, Patience, SandboxDaemon
from longshore_daemon.inside.lines import Gap, Lines
from longshore_daemon.inside.output import STDERR, STDOUT, Output, Reader
from longshore_daemon.inside.ring import Ring
from longshore_daemon.inside.store import Store

Daemon = Any
LIMIT = 100
PIECES = st.lists(
    st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(min_size=1, max_size=40)), max_size=30
)


def append(ring: Ring, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[ring.append(view) :]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=12), st.integers(0, 400), st.integers(0, 400))
def test_a_ring_keeps_the_latest_bytes(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], start: int, end: int
) -> None:
    store = Store((str(tmp_path_factory.mktemp("ring")),))
    ring = Ring(store, LIMIT)
    for piece in pieces:
        append(ring, piece)
    data = b"".join(pieces)
    assert (ring.size, ring.start) == (len(data), max(0, len(data) - LIMIT))
    end = min(end, ring.size)
    assert ring.read(start, end) == data[max(start, ring.start) : end]
    assert ring.kept == store.bytes == min(len(data), LIMIT)
    ring.close()
    assert store.files == 0


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=12), st.integers(0, 12))
def test_a_ring_that_stops_growing_goes_on_with_what_it_has(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], growing: int
) -> None:
    ring = Ring(Store((str(tmp_path_factory.mktemp("ring")),)), LIMIT)
    for number, piece in enumerate(pieces):
        if number == growing:
            ring.stop_growing(1)
        append(ring, piece)
    data = b"".join(pieces)
    then = len(b"".join(pieces[:growing])) if growing < len(pieces) else LIMIT
    assert ring.limit == (then if 1 <= then < LIMIT else LIMIT)
    assert ring.read(0, ring.size) == data[-ring.limit :]
    ring.close()


def test_output_that_was_removed_can_be_read_by_those_who_have_it_open(tmp_path: Path) -> None:
    store = Store((str(tmp_path),))
    output = Output(store, LIMIT)
    output.append(STDOUT, b"abc")
    with output.open() as reader:
        output.remove()
        output.remove()
        output.append(STDOUT, b"def")
        assert (store.bytes, store.files) == (0, 2)
        assert reader.read(STDOUT, 0, 3) == b"abc"
    assert store.files == 0


def collect(reader: Reader, offset: int) -> dict[int, bytes]:
    """What is left of all that came, by its place among both streams."""
    found = dict[int, bytes]()
    number = reader.find(offset)
    while (chunk := reader.chunk(number)) is not None:
        if data := reader.read(chunk.stream, chunk.start, chunk.end):
            found[chunk.total_end - len(data)] = data
        number = chunk.number + 1
    return found


@settings(deadline=None)
@given(PIECES, st.integers(0, 1200))
def test_both_streams_are_read_in_the_order_in_which_they_came(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, bytes]], offset: int
) -> None:
    output = Output(Store((str(tmp_path_factory.mktemp("output")),)), LIMIT)
    for stream, data in pieces:
        output.append(stream, data)
    whole = b"".join(data for _, data in pieces)
    with output.open() as reader:
        found = collect(reader, 0)
        for place, data in found.items():
            assert whole[place : place + len(data)] == data
        for stream in (STDOUT, STDERR):
            written = sum(len(data) for of, data in pieces if of == stream)
            assert reader.size(stream) - reader.start(stream) == min(written, LIMIT)
        assert sum(map(len, found.values())) == sum(
            reader.size(stream) - reader.start(stream) for stream in (STDOUT, STDERR)
        )
        whole_from = reader.whole_from()
        tail = b"".join(data for place, data in found.items() if place >= whole_from)
        assert whole[whole_from:].endswith(tail)
        present = {place + i for place, data in found.items() for i in range(len(data))}
        assert present.issuperset(range(whole_from, len(whole)))
        assert whole_from == 0 or whole_from - 1 not in present
        if whole_from <= offset < len(whole):
            assert min(collect(reader, offset)) <= offset
    output.remove()


@settings(deadline=None)
@given(st.lists(st.tuples(st.text("ab\r\n", min_size=1, max_size=70), st.integers(0, 3))))
def test_lines_and_gaps_together_are_all_that_came(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """However far a reader falls behind, it is told of every byte that it has missed."""
    output = Output(Store((str(tmp_path_factory.mktemp("output")),)), LIMIT)
    whole = "".join(text for text, _ in steps).encode()
    with output.open() as reader:
        lines, at = Lines(reader, (STDOUT,)), 0
        for text, reads in steps:
            output.append(STDOUT, text.encode())
            for _ in range(reads):
                at = _check(lines, lines.more() or [], whole, at)
        while (found := lines.more()) is not None:
            at = _check(lines, found, whole, at)
        assert _check(lines, lines.rest(), whole, at) == len(whole)
    output.remove()


def _check(lines: Lines, found: list[Any], whole: bytes, at: int) -> int:
    for line in found:
        assert line.start == at
        if isinstance(line, Gap):
            at = line.end
            continue
        shown = b"".join(lines.pieces(line))
        hole = lines.take_hole()
        if hole is not None:
            assert hole.start == line.start
        assert whole[line.start if hole is None else hole.end : line.end] == shown
        rest = whole[line.end :]
        at = line.end + (2 if rest[:2] == b"\r\n" else 1 if rest[:1] == b"\n" else 0)
    return at


class TestCapped:
    """A daemon that keeps the last MiB of each stream."""

    @pytest.fixture
    def capped(self, runtime: Any, start: Callable[..., Daemon]) -> Daemon:
        patience = Patience(start=10, call=5, grace=5)
        guest = SandboxDaemon(runtime, patience, Options(output_bytes=1 << 20))
        spec = ContainerSpec(id=ContainerId("c"), argv=(), env={"PATH": "/usr/bin:/bin"})
        launched = guest.launch(spec, Facts(mounts=False))
        daemon = start(launched.argv, launched.env)
        daemon.ask("go", token="the-token")
        return daemon

    @pytest.fixture
    def pid(self, capped: Daemon) -> int:
        """One that wrote 3 MiB in lines of 16 bytes."""
        pid = capped.start("sh", "-c", "yes 0123456789abcde | head -c 3145728")["pid"]
        capped.follow(pid, "stderr")
        return pid

    def test_bytes_are_answered_with_the_range_that_is_missing(
        self, capped: Daemon, pid: int
    ) -> None:
        answer = capped.http.get(f"processes/{pid}/stdout?raw=1&offset=16")
        assert answer.headers["longshore-output-gap"] == f"16-{2 << 20}"
        assert answer.content == b"0123456789abcde\n" * 65536
        whole = capped.http.get(f"processes/{pid}/output?raw=1&offset={2 << 20}")
        assert "longshore-output-gap" not in whole.headers
        assert whole.content == answer.content

    def test_the_list_of_lines_names_it(self, capped: Daemon, pid: int) -> None:
        shown = capped.http.get(f"processes/{pid}/output").json()
        assert shown["gaps"] == [{"stream": "stdout", "from": 0, "to": 2 << 20}]
        assert shown["lines"] == ["0123456789abcde"] * 65536

    def test_followers_are_told_of_it(self, capped: Daemon, pid: int) -> None:
        first, *_ = capped.follow(pid)
        assert first == {"stream": "stdout", "from": 0, "to": 2 << 20}

    def test_frames_tell_it_in_the_offsets_that_can_be_asked_for(
        self, capped: Daemon, pid: int
    ) -> None:
        content = capped.http.get(f"processes/{pid}/frames?offset=5").content
        expected = b'{"gap":{"from":5,"to":2097152}}'
        assert content[:8] == b"\0\0\0\0" + len(expected).to_bytes(4, "big")
        assert content[8 : 8 + len(expected)] == expected

    def test_a_reader_who_falls_behind_an_announced_length_is_cut_off(self, capped: Daemon) -> None:
        """So it never takes later bytes for those that it asked for."""
        script = "head -c 1048576 /dev/zero; read x; yes | head -c 8388608; echo end >&2; sleep 60"
        pid = capped.start("sh", "-c", script, stdin_mode="pipe")["pid"]
        while len(capped.raw(pid)) < 1 << 20:
            pass
        with capped.connect() as sock:
            head = f"GET /api/v1/processes/{pid}/stdout?raw=1 HTTP/1.1\r\n"
            sock.sendall(f"{head}Longshore-Sandbox-Token: the-token\r\n\r\n".encode())
            begin = sock.recv(4096)
            capped.http.post(f"processes/{pid}/stdin", content=b"\n")
            next(capped.events(f"processes/{pid}/stderr/follow"))
            rest = b"".join(iter(lambda: sock.recv(65536), b""))
        body = (begin + rest).partition(b"\r\n\r\n")[2]
        assert len(body) < 1 << 20
        assert not body.strip(b"\0")
