"""A runtime for containers that takes as long as a test lets it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_SLOW: Final = """\
#!/bin/sh
# runc, which after making a container waits until it may say so.
runc "$@"
code=$?
case " $* " in
*" create "*)
    touch {place}/made
    until [ -e {place}/gate ]; do sleep 0.02; done
    ;;
esac
exit $code
"""


class SlowRuntime:
    """`program` makes `made` in `place` when the container is there, and waits for `gate`."""

    def __init__(self, program: Path, place: Path) -> None:
        self._made, self._gate = place / "made", place / "gate"
        program.write_text(_SLOW.format(place=place))
        program.chmod(0o755)

    @property
    def has_made(self) -> bool:
        return self._made.exists()

    def let_go(self) -> None:
        """From now on it takes no longer than others."""
        self._gate.touch()
