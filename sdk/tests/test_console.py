"""What the command writes to whoever reads it."""

from __future__ import annotations

import os
import threading

import anyio
from longshore._sandboxes import console


def test_all_of_it_is_written_where_nobody_is_to_wait() -> None:
    """As somebody leaves a terminal behind who shares it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    data, read = os.urandom(1 << 20), bytearray()

    def drain() -> None:
        while piece := os.read(reading, 65536):
            read.extend(piece)

    reader = threading.Thread(target=drain)
    reader.start()
    try:
        anyio.run(console.write, writing, data)
    finally:
        os.close(writing)
        reader.join()
        os.close(reading)
    assert read == data
