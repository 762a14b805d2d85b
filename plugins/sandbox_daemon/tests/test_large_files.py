"""Files of any size pass through little memory, both ways.

`LONGSHORE_LONG=1` takes 5 GiB instead of 256 MiB.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

Daemon = Any
MIB = 1 << 20
SIZE = (5 << 30) if os.environ.get("LONGSHORE_LONG") else 256 * MIB
MORE_MIB = 64

pytestmark = pytest.mark.timeout(900 if SIZE >> 30 else 120)


class Content:
    """Bytes that are nowhere twice the same, made as they are asked for."""

    def __init__(self) -> None:
        self._block = os.urandom(MIB - 8)

    def from_offset(self, offset: int, end: int = SIZE) -> Iterator[bytes]:
        for number in range(offset // MIB, end // MIB):
            yield number.to_bytes(8, "big") + self._block

    def digest(self) -> bytes:
        return _digest(self.from_offset(0))


def _digest(pieces: Iterator[bytes]) -> bytes:
    seen = hashlib.sha256()
    for piece in pieces:
        seen.update(piece)
    return seen.digest()


def peak_mib(daemon: Daemon) -> float:
    """The most that was ever resident."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


def test_a_file_of_any_size_passes_through_little_memory(daemon: Daemon, tmp_path: Path) -> None:
    content, path = Content(), tmp_path / "large"
    query = {"path": str(path)}
    daemon.http.get("files", params=query)
    before = peak_mib(daemon)
    answer = daemon.http.put("files", params=query, content=content.from_offset(0))
    assert answer.status_code == 204
    with daemon.http.stream("GET", "files", params=query) as response:
        assert int(response.headers["content-length"]) == SIZE
        assert _digest(response.iter_raw()) == content.digest()
    assert peak_mib(daemon) - before < MORE_MIB
    path.unlink()


def test_an_upload_that_broke_off_is_resumed(daemon: Daemon, tmp_path: Path) -> None:
    content, path = Content(), tmp_path / "large"
    half = SIZE // MIB // 2 * MIB
    with daemon.connect() as sock:
        head = f"PUT /api/v1/files?path={path}&offset=0 HTTP/1.1\r\nContent-Length: {SIZE}\r\n"
        sock.sendall(head.encode() + b"Longshore-Sandbox-Token: the-token\r\n\r\n")
        for piece in content.from_offset(0, half):
            sock.sendall(piece)
        sock.sendall(b"x" * 100)
    query = {"path": str(path)}
    # Until all has arrived: what comes late would be written over what is sent again.
    sent = half + 100
    while (size := int(daemon.http.head("files", params=query).headers["content-length"])) < sent:
        pass
    # Go on from a block's begin: what came after it is written again.
    offset = size // MIB * MIB
    answer = daemon.http.put(
        "files", params={**query, "offset": offset}, content=content.from_offset(offset)
    )
    assert answer.status_code == 204
    with path.open("rb") as file:
        assert _digest(iter(lambda: file.read(MIB), b"")) == content.digest()
    path.unlink()


def test_a_download_that_broke_off_is_resumed(daemon: Daemon, tmp_path: Path) -> None:
    content, path = Content(), tmp_path / "large"
    with path.open("wb") as file:
        for piece in content.from_offset(0):
            file.write(piece)
    seen, offset = hashlib.sha256(), 0
    while offset < SIZE:
        headers = {"Range": f"bytes={offset}-"}
        with daemon.http.stream("GET", "files", params={"path": str(path)}, headers=headers) as r:
            assert r.status_code == 206
            for piece in r.iter_raw():
                seen.update(piece)
                offset += len(piece)
                if r.num_bytes_downloaded > SIZE // 3:
                    break
    assert seen.digest() == content.digest()
    path.unlink()
