"""Deployed code in the blob store, a directory of the file system."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from anyio import to_thread
from longshore_core import RequestError

from longshore_server.changes import Blob
from longshore_server.identity import new_id

_CHUNK: Final = 1 << 20


async def put(directory: Path, namespace: str, source: BinaryIO) -> Blob:
    """Copy `source` to a new blob. Raises RequestError STORE_UNAVAILABLE; then there is none."""
    return await to_thread.run_sync(_put, directory, namespace, source)


async def drop(blob: Blob | None) -> None:
    """Remove a blob. One that is gone already is no error, nor is one that cannot be removed."""
    if blob is not None:
        await to_thread.run_sync(_drop, Path(blob.url.removeprefix("file://")))


def _put(directory: Path, namespace: str, source: BinaryIO) -> Blob:
    target = directory / f"{namespace}_{new_id()}"
    partial = target.with_name(f".{target.name}.part")
    digest, size = hashlib.sha256(), 0
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as sink:
            while chunk := source.read(_CHUNK):
                sink.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            sink.flush()
            os.fsync(sink.fileno())
        partial.rename(target)
    except OSError as exc:
        _drop(partial)
        raise RequestError(
            503, "STORE_UNAVAILABLE", f"the code cannot be stored: {exc.strerror}", retryable=True
        ) from exc
    return Blob(url=f"file://{target}", size=size, sha256=digest.hexdigest())


def _drop(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
