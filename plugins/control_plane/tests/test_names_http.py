"""Sandboxes called by a name, and what of them can change."""

from __future__ import annotations

import anyio
import pytest

FLAT = "/sandboxes"
TEAM = "/v1/namespaces/team/sandboxes"


async def test_a_name_stands_wherever_an_id_does_and_ends_with_its_sandbox(server):
    created = await server.create(name="box")
    assert created["name"] == "box"
    assert (await server.http.get(f"{FLAT}/box")).json()["id"] == created["id"]
    assert (await server.http.delete(f"{FLAT}/box")).status_code == 200
    assert (await server.http.get(f"{FLAT}/box")).status_code == 404
    ended = (await server.http.get(f"{FLAT}/{created['id']}")).json()
    assert (ended["name"], ended["status"]) == ("box", "terminated")
    assert (await server.create(name="box"))["id"] != created["id"]


async def test_a_name_is_taken_once_in_a_namespace(server):
    first = await server.create(name="box")
    response = await server.http.post(FLAT, json={"name": "box"})
    assert (response.status_code, response.json()["code"]) == (409, "NAME_TAKEN")
    assert first["id"] in response.json()["message"]
    assert (await server.http.post(TEAM, json={"name": "box"})).status_code == 200
    assert (await server.http.get(f"{TEAM}/box")).json()["id"] != first["id"]


async def test_of_many_that_want_one_name_at_once_one_gets_it(server):
    statuses: list[int] = []

    async def ask() -> None:
        statuses.append((await server.http.post(FLAT, json={"name": "box"})).status_code)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(ask)
    assert sorted(statuses) == [200] + [409] * 7


@pytest.mark.parametrize("name", ["", "Box", "1box", "-box", "b" * 64, "a" * 21, "b_x", "b.x"])
async def test_what_is_no_name_is_refused(server, name):
    response = await server.http.post(FLAT, json={"name": name})
    assert (response.status_code, response.json()["code"]) == (422, "INVALID_REQUEST")
    assert "a letter first" in response.json()["message"]


async def test_a_sandbox_can_be_renamed_and_opened(server):
    created = await server.create(name="box", exposed_ports=[80])
    changes = {"name": "crate", "allow_unauthenticated_access": True}
    changed = (await server.http.patch(f"{FLAT}/box", json=changes)).json()
    assert changed["id"] == created["id"]
    assert (changed["name"], changed["allow_unauthenticated_access"]) == ("crate", True)
    assert changed["exposed_ports"] == [80]
    assert (await server.http.get(f"{FLAT}/box")).status_code == 404
    assert (await server.http.get(f"{FLAT}/crate")).json() == changed
    assert (await server.http.patch(f"{FLAT}/crate", json={"name": "crate"})).status_code == 200
    await server.create(name="box")
    taken = await server.http.patch(f"{FLAT}/crate", json={"name": "box"})
    assert (taken.status_code, taken.json()["code"]) == (409, "NAME_TAKEN")


async def test_what_it_runs_with_cannot_change(server):
    await server.create(name="box")
    response = await server.http.patch(f"{FLAT}/box", json={"timeout_secs": 5})
    assert (response.status_code, response.json()["code"]) == (501, "UNSUPPORTED_CAPABILITY")
    assert response.json()["message"].startswith("timeout_secs")


async def test_one_that_has_ended_cannot_change(server):
    created = await server.create()
    await server.http.delete(f"{FLAT}/{created['id']}")
    response = await server.http.patch(f"{FLAT}/{created['id']}", json={"name": "box"})
    assert (response.status_code, response.json()["code"]) == (409, "SANDBOX_TERMINATED")
    missing = await server.http.patch(f"{FLAT}/nonesuch", json={"name": "box"})
    assert missing.status_code == 404


async def test_a_wait_for_one_that_is_deleted_says_so(server):
    worker = server.worker()
    await worker.register()
    answers = []

    async def ask() -> None:
        answers.append(await server.http.post(FLAT, json={"name": "box", "wait": True}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await worker.added()
        await server.http.delete(f"{FLAT}/box")
    (answer,) = answers
    assert (answer.status_code, answer.json()["code"]) == (409, "SANDBOX_TERMINATED")


async def test_names_outlive_the_server(serve_here):
    async with serve_here() as server:
        created = await server.create(name="box")
    async with serve_here() as server:
        assert (await server.http.get(f"{FLAT}/box")).json()["id"] == created["id"]
        assert (await server.http.post(FLAT, json={"name": "box"})).status_code == 409
