"""What the driver keeps of a container on this host, should somebody take it from the engine.

    <state_dir>/<id>/owner        whose it is: another owner's is not there
                     sockets/     the container sees it at `/.longshore/sockets`
                     network      the number of its network namespace, where it has one
                     exit.json    once its end was seen

The rest is the engine's to know. Blocking, though never for long.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from longshore_core import BackendError, ContainerId, Exit
from longshore_core.trees import delete_tree
from pydantic import TypeAdapter

_EXIT: Final = TypeAdapter(Exit)


class Places:
    def __init__(self, root: Path, owner: str) -> None:
        self._root = root
        self._owner = owner

    def sockets(self, id_: ContainerId) -> Path:
        return self._root / id_ / "sockets"

    def make(self, id_: ContainerId, network: int | None = None) -> None:
        """Idempotent: what is in there already stays. Raises BackendError."""
        path = self._root / id_
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # At once, with its content: who comes upon half of a name would take it for another's.
            (path / "owner.new").write_text(self._owner, encoding="utf-8")
            (path / "owner.new").replace(path / "owner")
            self.sockets(id_).mkdir(mode=0o700, exist_ok=True)
            if network is not None:
                (path / "network").write_text(str(network))
        except OSError as exc:
            what = f"cannot make {path}, the place of container {id_}"
            raise BackendError(f"{what}: {exc.strerror}", retryable=True) from exc

    def network(self, id_: ContainerId) -> int | None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int((self._root / id_ / "network").read_text())
        return None

    def all(self) -> frozenset[ContainerId]:
        """Whose places there are, of this owner's."""
        return frozenset(
            ContainerId(file.parent.name) for file in self._root.glob("*/owner") if self._owns(file)
        )

    def _owns(self, file: Path) -> bool:
        try:
            return file.read_text(encoding="utf-8") == self._owner
        except FileNotFoundError:
            return False  # it has gone meanwhile

    def networks(self) -> frozenset[int]:
        """The numbers of all that are, or once were, in use: until their place is removed."""
        numbers = (self.network(id_) for id_ in self.all())
        return frozenset(number for number in numbers if number is not None)

    def remove(self, id_: ContainerId) -> None:
        """Idempotent. Raises BackendError when something of it stays; then it is among `all`, and
        has no network any more, which may be another's by the time that this is tried again."""
        path = self._root / id_
        try:
            (path / "network").unlink(missing_ok=True)
            # Whose it is goes last: as long as anything stays, that is known.
            delete_tree(self.sockets(id_))
            (path / "exit.json").unlink(missing_ok=True)
            delete_tree(path)
        except OSError as exc:
            what = f"cannot delete {path}, the place of container {id_}"
            raise BackendError(f"{what}: {exc.strerror}", retryable=True) from exc

    def record(self, id_: ContainerId, exit_: Exit) -> None:
        """Keep how a container has ended: who comes after us has not seen it. Raises OSError."""
        draft = self._root / id_ / "exit.json.new"
        with contextlib.suppress(FileNotFoundError):
            draft.write_bytes(_EXIT.dump_json(exit_))
            draft.replace(self._root / id_ / "exit.json")

    def exit(self, id_: ContainerId) -> Exit | None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return _EXIT.validate_json((self._root / id_ / "exit.json").read_bytes())
        return None
