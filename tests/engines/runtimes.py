"""A runtime for containers that takes as long as a test lets it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_SLOW: Final = """\
#!/bin/sh
# runc, which after making a container waits until it may say so.
case " $* " in
*" delete "*)
    if [ -e {place}/refuses ]; then exit 1; fi
    ;;
esac
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
    """`program` says in `place` that the container is there, and waits there to be let go."""

    def __init__(self, program: Path, place: Path) -> None:
        self._made, self._gate, self._refuses = (
            place / name for name in ("made", "gate", "refuses")
        )
        program.write_text(_SLOW.format(place=place))
        program.chmod(0o755)

    @property
    def has_made(self) -> bool:
        return self._made.exists()

    @contextmanager
    def refusing_to_delete(self) -> Iterator[None]:
        self._refuses.touch()
        yield
        self._refuses.unlink()

    def let_go(self) -> None:
        """From now on it takes no longer than others."""
        self._gate.touch()
