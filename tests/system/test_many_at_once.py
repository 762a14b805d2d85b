"""Fifty sandboxes at once, on real engines: none is lost, or mistaken for another, or left over."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.engines import images
from tests.system.harness import until
from tests.system.on_engines import KINDS, READY, containers, namespaces, sockets, system_on

MANY = 50
SECONDS = 300.0


@pytest.mark.alone
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_sandboxes_that_are_made_at_once_all_run(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    engine: Any = request.getfixturevalue(f"{kind}_engine")
    with system_on(kind, engine, tmp_path) as whole, ThreadPoolExecutor(MANY) as threads:
        whole.api.timeout = whole.proxy.timeout = SECONDS

        def make(_: int) -> str:
            return whole.create(image=images.BASE.reference, timeout_secs=0)

        def says(id_: str) -> list[str]:
            pid = whole.spawn(id_, "echo", id_)
            where = f"/api/v1/processes/{pid}"

            def has_ended() -> bool:
                return bool(whole.daemon(id_, "GET", where).json()["status"] != "running")

            until(has_ended, f"the program in {id_} ends", SECONDS)
            return list(whole.daemon(id_, "GET", f"{where}/stdout").json()["lines"])

        ids = list(threads.map(make, range(MANY)))
        assert len(set(ids)) == MANY
        # What is to be gone in the end can be seen while it is there.
        assert len(namespaces(kind, engine)) >= MANY
        assert len(sockets(kind, whole)) == MANY
        said = dict(zip(ids, threads.map(says, ids), strict=True))
        assert said == {id_: [id_] for id_ in ids}
        list(threads.map(whole.delete, ids))
        for id_ in ids:
            until(lambda id_=id_: whole.sandbox(id_)["status"] == "terminated", id_, SECONDS)
        # The server does not wait for the engine; a worker that stops does, for less than this.
        until(lambda: len(containers(engine, whole)) <= READY, "they are removed", SECONDS)
