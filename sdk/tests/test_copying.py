"""Copies out of a sandbox that lies: nothing is written outside of where they go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from longshore import Sandbox, SandboxError
from longshore._carrier import finish
from longshore._http import BlockingCarrier
from longshore._session import Session

from sdk.tests.world import INFO

TIMES = {"modified_at": 1, "accessed_at": 1, "changed_at": 1}


class Liar:
    """A daemon that answers whatever it has been told to, by path."""

    def __init__(self) -> None:
        self.kinds: dict[str, list[dict[str, Any]]] = {}
        self.lists: dict[str, list[str]] = {}

    def stands(self, path: str, kind: str, **more: Any) -> None:
        self.kinds.setdefault(path, []).append({"type": kind, **more})

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, query = request.url.path, request.url.params.get("path", "")
        if not path.startswith("/api/v1"):
            return answer(INFO)
        if path.endswith("/stat"):
            known = self.kinds[query]
            told = known.pop(0) if len(known) > 1 else known[0]
            plain = {"path": query, "size": 1, "mode": "0644", "uid": 0, "gid": 0, "links": 1}
            return answer({**plain, **TIMES, **told})
        if path.endswith("/list"):
            entries = [
                {"name": name, "is_dir": False, "size": 1, "modified_at": 1}
                for name in self.lists[query]
            ]
            return answer({"path": query, "entries": entries})
        return httpx.Response(200, stream=httpx.ByteStream(b"evil"))

    def sandbox(self) -> Sandbox:
        carrier = BlockingCarrier(httpx.MockTransport(self))
        return Sandbox(finish(Session.attach(carrier, "sb", {"api_url": "http://api.test"})))


def answer(body: Any) -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(json.dumps(body).encode()))


@pytest.mark.parametrize("name", ["..", ".", "", "../x", "/etc/x", "a/../../x"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    liar = Liar()
    liar.stands("top", "directory")
    liar.lists["top"] = [name]
    with pytest.raises(SandboxError, match="which is no name") as caught:
        liar.sandbox().files.download("top", tmp_path / "in")
    assert caught.value.code == "BAD_ANSWER"
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_nothing_is_written_through_a_link_that_came_with_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    liar = Liar()
    liar.stands("top", "directory")
    # Asked twice, it answers otherwise: a link first, then a directory with something in it.
    liar.lists |= {"top": ["a", "a"], "top/a": ["evil"]}
    liar.stands("top/a", "symlink", target=str(outside))
    liar.stands("top/a", "directory")
    liar.stands("top/a/evil", "file")
    with pytest.raises(IsADirectoryError):
        liar.sandbox().files.download("top", tmp_path / "in")
    assert list(outside.iterdir()) == []


def test_nothing_is_written_through_a_link_of_an_earlier_copy(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").symlink_to(outside)
    liar = Liar()
    liar.stands("top", "directory")
    liar.lists |= {"top": ["a"], "top/a": ["evil"]}
    liar.stands("top/a", "directory")
    liar.stands("top/a/evil", "file")
    with pytest.raises(NotADirectoryError, match="is a link where a directory is to be"):
        liar.sandbox().files.download("top", tmp_path / "in")
    assert list(outside.iterdir()) == []


def test_bits_that_would_raise_privileges_are_not_taken_over(tmp_path: Path) -> None:
    liar = Liar()
    liar.stands("f", "file", mode="4755")
    liar.sandbox().files.download("f", tmp_path / "f")
    assert oct((tmp_path / "f").stat().st_mode & 0o7777) == "0o755"
