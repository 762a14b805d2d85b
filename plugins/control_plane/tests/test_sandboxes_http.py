"""What callers are promised about sandboxes."""

from __future__ import annotations

import re
import time
from statistics import median

import anyio
import pytest
from longshore_proto import executor_api_pb2 as pb

FLAT = "/sandboxes"
IN_NAMESPACE = "/v1/namespaces/default/sandboxes"
IN_APPLICATION = "/v1/namespaces/default/applications/test-app/sandboxes"


async def _deploy(server, name="test-app"):
    manifest = f'{{"name":"{name}","functions":{{}}}}'
    response = await server.http.post(
        "/v1/namespaces/default/applications", files={"application": (None, manifest)}
    )
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("path", [FLAT, IN_NAMESPACE, IN_APPLICATION])
async def test_a_sandbox_lives_from_create_to_delete(server, path):
    await _deploy(server)
    worker = server.worker()
    await worker.register()
    created = await server.create(path, image="python:3.14-slim")
    assert re.fullmatch("[0-9a-z]{21}", created["sandbox_id"])
    assert created["status"] == "pending"
    one = f"{path}/{created['id']}"
    (container,) = await worker.added()
    await worker.started(container.id)
    running = (await server.http.get(one)).json()
    assert running["status"] == "running"
    assert not {"pending_reason", "outcome"} & running.keys()
    assert running["container_id"] == created["id"]
    assert running["executor_id"] == "worker-1"
    assert running["sandbox_url"] == "http://127.0.0.1:8095"
    assert [item["id"] for item in (await server.http.get(path)).json()["sandboxes"]] == [
        created["id"]
    ]
    for _ in range(2):
        deleted = await server.http.delete(one)
        assert (deleted.status_code, deleted.content) == (200, b"")
    (removal,) = await worker.poll()
    assert removal.remove_container.container_id == created["id"]
    ended = (await server.http.get(one)).json()
    assert (ended["status"], ended["outcome"]) == ("terminated", "Success(UserTerminated)")
    assert ended["terminated_at"] >= ended["created_at"]
    assert not {"pending_reason", "sandbox_url"} & ended.keys()


async def test_each_answer_has_the_id_under_the_one_name_that_clients_expect_in_it(server):
    created = (await server.http.post(FLAT, json={})).json()
    listed = (await server.http.get(FLAT)).json()["sandboxes"]
    looked = (await server.http.get(f"{FLAT}/{created['sandbox_id']}")).json()
    assert "id" not in created
    assert all("sandbox_id" not in one for one in (looked, *listed))
    assert looked["id"] == created["sandbox_id"]


async def test_the_defaults_are_those_of_the_field(server):
    created = await server.create()
    assert created["image"] == "python:3.14-slim"
    assert created["timeout_secs"] == 600
    assert created["resources"] == {
        "cpus": 1.0,
        "memory_mb": 1024,
        "disk_mb": 1024,
        "ephemeral_disk_mb": 1024,
    }
    partial = await server.create(resources={})
    assert partial["resources"]["cpus"] == 0.1
    assert partial["resources"]["memory_mb"] == 256
    assert partial["resources"]["disk_mb"] == 1024


@pytest.mark.parametrize("name", ["disk_mb", "ephemeral_disk_mb"])
async def test_both_names_of_the_disk_are_understood(server, name):
    created = await server.create(resources={name: 77})
    assert created["resources"]["disk_mb"] == created["resources"]["ephemeral_disk_mb"] == 77


async def test_keys_of_newer_clients_are_ignored(server):
    created = await server.create(name="n", max_pending_secs=3, auto_resume=True, file_systems=[])
    assert created["status"] == "pending"


async def test_a_body_is_not_needed(server):
    assert (await server.http.post("/sandboxes")).status_code == 200


async def test_what_was_asked_for_is_shown(server):
    created = await server.create(
        entrypoint=["sleep", "1"],
        secret_names=["A"],
        network={"deny_out": ["1.1.1.1"]},
        allow_unauthenticated_access=True,
        exposed_ports=[8080],
    )
    shown = await server.look(created["id"])
    assert shown["entrypoint"] == ["sleep", "1"]
    assert shown["secret_names"] == ["A"]
    assert shown["network_policy"] == {
        "allow_internet_access": True,
        "allow_out": [],
        "deny_out": ["1.1.1.1"],
    }
    assert shown["exposed_ports"] == [8080]
    lookup = (await server.http.get(f"/internal/v1/sandboxes/{created['id']}")).json()
    assert lookup == {
        "id": created["id"],
        "namespace": "default",
        "status": "pending",
        "dataplane_api_address": None,
        "allow_unauthenticated_access": True,
        "exposed_ports": [8080],
    }


async def test_the_lookup_knows_the_proxy_and_forgets_the_terminated(server):
    await server.worker().register()
    created = await server.create("/v1/namespaces/team/sandboxes")
    path = f"/internal/v1/namespaces/team/sandboxes/{created['id']}"
    assert (await server.http.get(path)).json()["dataplane_api_address"] == "127.0.0.1:8095"
    assert (await server.http.get(path.replace("team", "other"))).status_code == 404
    await server.http.delete(f"/v1/namespaces/team/sandboxes/{created['id']}")
    assert (await server.http.get(path)).status_code == 404


async def test_a_sandbox_belongs_to_its_namespace_and_application(server):
    await _deploy(server)
    created = await server.create("/v1/namespaces/team/sandboxes")
    for path in (FLAT, IN_NAMESPACE, IN_APPLICATION):
        for call in (server.http.get, server.http.delete):
            response = await call(f"{path}/{created['id']}")
            assert (response.status_code, response.json()["code"]) == (404, "SANDBOX_NOT_FOUND")
    assert (await server.http.get(FLAT)).json() == {"sandboxes": []}


async def test_a_missing_application_is_said_to_be_missing(server):
    for response in (
        await server.http.post(IN_APPLICATION, json={}),
        await server.http.get(IN_APPLICATION),
        await server.http.get(f"{IN_APPLICATION}/abc"),
        await server.http.delete(f"{IN_APPLICATION}/abc"),
    ):
        assert response.status_code == 404
        assert response.json()["code"] == "APPLICATION_NOT_FOUND"
        assert response.json()["message"] == "no application 'test-app' in namespace default"


async def test_a_public_domain_gives_each_sandbox_a_url_of_its_own(serve_here):
    async with serve_here(
        sandbox_proxy_domain="sandboxes.example.com", sandbox_proxy_scheme="https"
    ) as server:
        created = await server.create()
        assert created["sandbox_url"] == f"https://{created['id']}.sandboxes.example.com"


async def test_the_list_is_cut_into_pages_the_newest_first(server):
    created = [(await server.create())["id"] for _ in range(5)]
    seen, cursor = [], None
    for size in (2, 2, 1):
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await server.http.get(FLAT, params=params)).json()
        assert len(page["sandboxes"]) == size
        seen += [one["id"] for one in page["sandboxes"]]
        cursor = page.get("cursor")
    assert cursor is None
    assert sorted(seen) == sorted(created)
    times = [(await server.look(one))["created_at"] for one in seen]
    assert times == sorted(times, reverse=True)


async def test_the_list_can_be_narrowed_to_a_status(server):
    first, second = await server.create(), await server.create()
    await server.http.delete(f"{FLAT}/{first['id']}")

    async def ids(status):
        found = (await server.http.get(FLAT, params={"status": status})).json()["sandboxes"]
        return [one["id"] for one in found]

    assert await ids("terminated") == [first["id"]]
    assert await ids("pending") == [second["id"]]


@pytest.mark.parametrize("how", ["query", "body"])
async def test_a_caller_can_wait_until_it_runs(server, how):
    worker = server.worker()
    await worker.register()
    answers = []

    async def create():
        query, body = ({"wait": "true"}, {}) if how == "query" else ({}, {"wait": True})
        answers.append(await server.http.post(FLAT, params=query, json=body))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(create)
        (container,) = await worker.added()
        await worker.started(container.id)
    assert answers[0].status_code == 200
    assert answers[0].json()["status"] == "running"
    assert answers[0].json()["sandbox_url"] == "http://127.0.0.1:8095"


async def test_a_sandbox_that_ends_before_it_runs_is_an_error_with_its_reason(server):
    worker = server.worker(metadata=(("longshore-protocol", "1"),))
    await worker.register()
    answers = []

    async def create():
        answers.append(await server.http.post(FLAT, json={"wait": True}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(create)
        (container,) = await worker.added()
        detail = pb.ContainerDetail(container_id=container.id, error_message="no such image")
        extension = pb.WorkerExtension(containers=[detail])
        await worker.ended(container.id, "STARTUP_FAILED_BAD_IMAGE", longshore=extension)
    (answer,) = answers
    assert answer.status_code == 500
    assert answer.json()["code"] == "SANDBOX_FAILED"
    assert answer.json()["sandbox_id"] == container.id
    assert answer.json()["message"] == f"sandbox {container.id} ended before it ran: no such image"


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ({"wait_timeout_secs": "0.05"}, {}),
        ({}, {"X-Tensorlake-Request-Timeout-Ms": "50"}),
        (
            {},
            {
                "X-Tensorlake-Request-Timeout-Ms": "1300",
                "X-Tensorlake-Request-Timeout-Grace-Ms": "1250",
            },
        ),
    ],
)
async def test_waiting_ends_in_time_and_names_the_sandbox(server, query, headers):
    response = await server.http.post(FLAT, params={"wait": "true", **query}, headers=headers)
    body = response.json()
    assert (response.status_code, body["code"], body["status"]) == (504, "TIMEOUT", "pending")
    assert body["sandbox_id"] in body["message"]
    assert (await server.look(body["sandbox_id"]))["status"] == "pending"


@pytest.mark.parametrize(
    ("workers", "resources", "why"),
    [
        (0, {}, "no worker is connected that may run it"),
        (1, {"cpus": 1000}, "no worker has free what it asks for"),
        (1, {}, "it is still being started"),
    ],
)
async def test_waiting_in_vain_says_what_for(server, workers, resources, why):
    for _ in range(workers):
        await server.worker().register()
    body = {"wait": True, "wait_timeout_secs": 0.05, "resources": resources}
    message = (await server.http.post(FLAT, json=body)).json()["message"]
    assert message.endswith(f" does not run yet after 0.05 s; {why}")


@pytest.mark.parametrize(
    "field", ['"image": "%s"', '"entrypoint": ["%s"]', '"secret_names": ["a", "%s"]']
)
@pytest.mark.parametrize("text", [r"\u0000", r"\ud800"])
async def test_text_that_nothing_can_hold_is_refused(server, field, text):
    headers = {"Content-Type": "application/json"}
    body = "{" + field % text + "}"
    response = await server.http.post(FLAT, content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "INVALID_REQUEST")


async def test_an_idempotency_key_gives_the_same_sandbox_again(server):
    headers = {"Idempotency-Key": "k"}
    answers = []

    async def create():
        answers.append(await server.http.post(FLAT, json={"image": "a"}, headers=headers))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(create)
    assert {one.status_code for one in answers} == {200}
    assert len({one.json()["sandbox_id"] for one in answers}) == 1
    assert len((await server.http.get(FLAT)).json()["sandboxes"]) == 1
    elsewhere = await server.http.post("/v1/namespaces/team/sandboxes", json={}, headers=headers)
    assert elsewhere.json()["sandbox_id"] != answers[0].json()["sandbox_id"]


async def test_an_idempotency_key_with_another_body_is_refused(server):
    headers = {"Idempotency-Key": "k"}
    await server.http.post(FLAT, json={"image": "a"}, headers=headers)
    response = await server.http.post(FLAT, json={"image": "b"}, headers=headers)
    assert response.status_code == 409
    assert response.json()["code"] == "IDEMPOTENCY_MISMATCH"


async def test_an_idempotency_key_outlives_the_server(serve_here):
    headers = {"Idempotency-Key": "k"}
    async with serve_here() as server:
        first = (await server.http.post(FLAT, json={}, headers=headers)).json()
    async with serve_here() as server:
        assert (await server.http.post(FLAT, json={}, headers=headers)).json() == first


async def test_fifty_creates_at_once_all_run(server):
    worker = server.worker(cpus=64, memory=2**40)
    await worker.register()
    answers = []

    async def create():
        answers.append(await server.http.post(FLAT, json={"wait": True}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.serve_containers)
        async with anyio.create_task_group() as callers:
            for _ in range(50):
                callers.start_soon(create)
        tasks.cancel_scope.cancel()
    assert [one.json()["status"] for one in answers] == ["running"] * 50
    (executor,) = (await server.http.get("/internal/executors")).json()
    assert executor["free_resources"]["cpu_ms_per_sec"] == 14_000


async def test_a_namespace_comes_with_its_first_write_and_not_with_a_read(server):
    await server.http.get("/v1/namespaces/read/sandboxes")
    await server.create("/v1/namespaces/written/sandboxes")
    names = [one["name"] for one in (await server.http.get("/namespaces")).json()["namespaces"]]
    assert names == ["written"]


async def test_a_namespace_can_be_made_twice(server):
    for _ in range(2):
        response = await server.http.post("/namespaces", json={"name": "default"})
        assert (response.status_code, response.content) == (200, b"")
    (only,) = (await server.http.get("/namespaces")).json()["namespaces"]
    assert only["name"] == "default"


async def test_storage_of_a_namespace_needs_a_region(server):
    body = {"name": "n", "blob_storage_bucket": "b"}
    response = await server.http.post("/namespaces", json=body)
    assert response.status_code == 400
    assert response.json()["message"] == "blob storage region is required"
    response = await server.http.post("/namespaces", json={**body, "blob_storage_region": "r"})
    assert response.status_code == 200
    (only,) = (await server.http.get("/namespaces")).json()["namespaces"]
    assert only["blob_storage_bucket"] == "b"


async def test_waiting_for_what_runs_already_ends_at_once(server):
    worker = server.worker()
    await worker.register()
    headers = {"Idempotency-Key": "k"}
    await server.http.post(FLAT, json={}, headers=headers)
    (container,) = await worker.added()
    await worker.started(container.id)
    response = await server.http.post(FLAT, json={"wait": True}, headers=headers)
    assert response.json()["status"] == "running"


async def test_an_answer_does_not_wait_for_the_callers_acknowledgement(server):
    took = list[float]()
    for _ in range(20):
        started = time.monotonic()
        await server.create()
        took.append(time.monotonic() - started)
    # Held back by Nagle's algorithm, each would take 40 ms.
    assert median(took) < 0.04
