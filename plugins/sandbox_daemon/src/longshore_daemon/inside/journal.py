"""What the daemon has to say, on standard error: the container's log."""

from __future__ import annotations

import os


def note(message: str) -> None:
    """Write one line. Nobody may listen any more, and that must not hurt."""
    try:
        os.write(2, f"longshore-daemon: {message}\n".encode("utf-8", "replace"))
    except OSError:
        return
