"""Text that others have written, for a terminal of ours: it shows, and does nothing else."""

from __future__ import annotations


def plain(text: str) -> str:
    """In one line, with what does not print escaped as in Python: `\\x1b`, `\\n`."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
