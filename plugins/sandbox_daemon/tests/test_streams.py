"""Every reader gets every byte: early, late, slow, stalled and cut off.

`LONGSHORE_LONG=1` takes 1 GiB instead of 64 MiB.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Daemon = Any
SIZE = (1 << 30) if os.environ.get("LONGSHORE_LONG") else (64 << 20)
STEP = 16 << 20

pytestmark = pytest.mark.timeout(900 if SIZE >> 30 else 120)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random bytes."""
    path = tmp_path_factory.mktemp("source") / "random"
    with path.open("wb") as file:
        for _ in range(0, SIZE, STEP):
            file.write(os.urandom(STEP))
    return path


def digest(pieces: Iterator[bytes]) -> str:
    seen = hashlib.sha256()
    for piece in pieces:
        seen.update(piece)
    return seen.hexdigest()


def contents(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(STEP), b"")


def frames(daemon: Daemon, pid: int, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    with daemon.http.stream("GET", f"processes/{pid}/frames?offset={offset}") as response:
        buffer = bytearray()
        for piece in response.iter_raw():
            buffer += piece
            start = 0
            while len(buffer) - start >= 8:
                kind, length = struct.unpack_from(">BxxxI", buffer, start)
                if len(buffer) - start < 8 + length:
                    break
                yield kind, bytes(buffer[start + 8 : start + 8 + length])
                start += 8 + length
            del buffer[:start]


def followed(daemon: Daemon, pid: int) -> Iterator[bytes]:
    return (data for kind, data in frames(daemon, pid) if kind)


def reconnecting(daemon: Daemon, pid: int) -> Iterator[bytes]:
    """Hangs up every few MiB, and goes on from where it was."""
    offset, ended = 0, False
    while not ended:
        took, ended = 0, True
        for kind, data in frames(daemon, pid, offset):
            if kind:
                offset, took = offset + len(data), took + len(data)
                yield data
            if took > SIZE // 7:
                ended = False
                break


def raw(daemon: Daemon, pid: int, kind: str) -> Iterator[bytes]:
    with daemon.http.stream("GET", f"processes/{pid}/{kind}?raw=1") as response:
        yield from response.iter_raw()


READERS: dict[str, Callable[[Daemon, int], Iterator[bytes]]] = {
    "follower": followed,
    "reconnecting": reconnecting,
    "stdout": lambda daemon, pid: raw(daemon, pid, "stdout"),
    "output": lambda daemon, pid: raw(daemon, pid, "output"),
}


def test_early_and_late_readers_get_the_same_bytes(daemon: Daemon, source: Path) -> None:
    found = dict[str, str]()
    pid = daemon.start("cat", str(source))["pid"]

    def read(name: str) -> None:
        found[f"early {name}"] = digest(READERS[name](daemon, pid))

    threads = [threading.Thread(target=read, args=(name,)) for name in ("follower", "reconnecting")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, reader in READERS.items():
        found[f"late {name}"] = digest(reader(daemon, pid))
    assert found == dict.fromkeys(found, digest(contents(source)))


def test_a_stalled_reader_stalls_neither_the_process_nor_another_reader(
    daemon: Daemon, source: Path
) -> None:
    pid = daemon.start("sh", "-c", f"read x; exec cat {source}", stdin_mode="pipe")["pid"]
    stalled = frames(daemon, pid)
    daemon.http.post(f"processes/{pid}/stdin", content=b"\n")
    begin = next(stalled)[1]
    expected = digest(contents(source))
    assert digest(followed(daemon, pid)) == expected
    assert daemon.http.get(f"processes/{pid}").json()["exit_code"] == 0
    assert digest(iter([begin, *(data for kind, data in stalled if kind)])) == expected


def test_the_streams_stay_apart_and_in_order(daemon: Daemon) -> None:
    script = "i=0; while [ $i -lt 500 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done"
    pid = daemon.start("sh", "-c", script)["pid"]
    out = "".join(f"o{i}\n" for i in range(500)).encode()
    err = "".join(f"e{i}\n" for i in range(500)).encode()
    seen = {1: b"", 2: b""}
    for kind, data in frames(daemon, pid):
        if kind:
            seen[kind] += data
    assert seen == {1: out, 2: err}
    assert daemon.raw(pid, "stdout") == out
    assert daemon.raw(pid, "stderr") == err


def test_what_was_written_apart_in_time_comes_in_that_order(daemon: Daemon) -> None:
    """Each waits until its predecessor's bytes have been seen here."""
    script = "for i in 1 2 3 4 5 6; do read x; echo $i; read x; echo $i >&2; done"
    pid = daemon.start("sh", "-c", script, stdin_mode="pipe")["pid"]
    follower = frames(daemon, pid)
    for step in range(12):
        daemon.http.post(f"processes/{pid}/stdin", content=b"\n")
        assert next(follower) == (1 + step % 2, b"%d\n" % (1 + step // 2))
    expected = b"".join(b"%d\n" % (1 + step // 2) for step in range(12))
    assert daemon.raw(pid, "output") == expected
