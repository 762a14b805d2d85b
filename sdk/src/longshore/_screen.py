"""What is to run at a terminal, and how large that is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from longshore._model import Command, RemotePath

_SHELL: Final = 'exec "$(command -v bash || echo /bin/sh)"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """A terminal that is still to be opened."""

    command: Command | None
    """None: a shell, the best that there is."""
    columns: int
    rows: int
    env: Mapping[str, str] | None = None
    cwd: RemotePath | None = None

    def body(self) -> dict[str, Any]:
        """As the daemon wants it. Raises ValueError."""
        command = _SHELL if self.command is None else self.command
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        if not argv or not argv[0]:
            raise ValueError("the command is empty")
        check_size(self.columns, self.rows)
        body: dict[str, Any] = {"command": argv[0], "args": argv[1:]}
        body |= {"cols": self.columns, "rows": self.rows}
        if self.env is not None:
            body["env"] = dict(self.env)
        if self.cwd is not None:
            body["working_dir"] = os.fsdecode(self.cwd)
        return body


def check_size(columns: int, rows: int) -> None:
    """Raises ValueError."""
    if not (0 < columns < 65536 and 0 < rows < 65536):
        raise ValueError(f"a terminal of {columns} columns and {rows} rows shows nothing")
