"""Every error has the one body, whichever route, and a request id."""

from __future__ import annotations

import httpx
import pytest
from longshore_server.http.api import build
from longshore_server.http.services import Services

NS = "/v1/namespaces/default"
SANDBOXES = ("/sandboxes", f"{NS}/sandboxes")


@pytest.fixture
def server(shared_server):
    return shared_server


def check(response, status, code, message=None):
    assert response.status_code == status, response.text
    body = response.json()
    assert body["code"] == code
    assert body["error"] == body["message"]
    assert isinstance(body["retryable"], bool)
    assert body["request_id"] == response.headers["x-request-id"]
    if message is not None:
        assert body["message"] == message


async def test_a_request_id_is_echoed_or_made(server):
    given = await server.http.get("/nowhere", headers={"X-Request-Id": "mine"})
    check(given, 404, "ROUTE_NOT_FOUND", "no such path: /nowhere")
    assert given.json()["request_id"] == "mine"
    made = await server.http.get("/healthz", headers={"X-Request-Id": "not sane"})
    assert len(made.headers["x-request-id"]) == 21


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/namespaces"),
        ("DELETE", "/healthz"),
        ("PUT", "/sandboxes"),
        ("POST", "/sandboxes/abc"),
        ("PUT", f"{NS}/sandboxes/abc"),
        ("PATCH", f"{NS}/applications"),
        ("PUT", f"{NS}/applications/app/sandboxes"),
        ("POST", "/internal/executors"),
    ],
)
async def test_a_wrong_method_is_said_to_be_wrong(server, method, path):
    check(
        await server.http.request(method, path),
        405,
        "METHOD_NOT_ALLOWED",
        f"{method} is not for {path}",
    )


@pytest.mark.parametrize("path", [*SANDBOXES, "/namespaces"])
@pytest.mark.parametrize("body", [b"{", b"nonsense", b'{"a":}', b"\xff\xfe", b"[" * 100_000])
async def test_a_body_that_is_not_json(server, path, body):
    response = await server.http.post(
        path, content=body, headers={"Content-Type": "application/json"}
    )
    check(response, 400, "INVALID_JSON")


@pytest.mark.parametrize("path", [*SANDBOXES, "/namespaces"])
async def test_a_body_of_another_type(server, path):
    response = await server.http.post(path, content=b"a=b", headers={"Content-Type": "text/plain"})
    check(
        response,
        415,
        "UNSUPPORTED_MEDIA_TYPE",
        "Content-Type must be application/json; it is text/plain",
    )


async def test_a_deployment_that_is_no_form(server):
    response = await server.http.post(f"{NS}/applications", json={})
    check(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    broken = {"Content-Type": "multipart/form-data"}
    check(
        await server.http.post(f"{NS}/applications", content=b"x", headers=broken),
        400,
        "BAD_REQUEST",
    )


@pytest.mark.parametrize("path", SANDBOXES)
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ("text", "body"),
        ({"image": 5}, "image"),
        ({"image": ""}, "image"),
        ({"resources": {"cpus": "1"}}, "resources.cpus"),
        ({"resources": {"cpus": 0}}, "resources.cpus"),
        ({"resources": {"memory_mb": 1.5}}, "resources.memory_mb"),
        ({"resources": {"disk_mb": -1}}, "resources"),
        ({"resources": {"gpus": [{"count": 1, "model": "Z"}]}}, "resources.gpus.0.model"),
        ({"timeout_secs": -1}, "timeout_secs"),
        ({"timeout_secs": "1"}, "timeout_secs"),
        ({"entrypoint": "ls"}, "entrypoint"),
        ({"network": {"allow_out": ["example.com"]}}, "network.allow_out"),
        ({"exposed_ports": [0]}, "exposed_ports.0"),
        ({"wait": "yes"}, "wait"),
        ({"secret_names": [1]}, "secret_names.0"),
    ],
)
async def test_a_wrong_field_is_named(server, path, body, field):
    response = await server.http.post(path, json=body)
    check(response, 422, "INVALID_REQUEST")
    assert response.json()["message"].startswith(f"{field}"), response.text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "query.limit"),
        ("limit=101", "query.limit"),
        ("limit=x", "query.limit"),
        ("status=odd", "query.status"),
        ("cursor=odd", "query.cursor"),
        ("cursor=W10=", "query.cursor"),
    ],
)
async def test_a_wrong_query_is_named(server, query, field):
    response = await server.http.get(f"/sandboxes?{query}")
    check(response, 422, "INVALID_REQUEST")
    assert response.json()["message"].startswith(f"{field}: ")


@pytest.mark.parametrize(
    "path", ["/v1/namespaces/-bad/sandboxes", "/v1/namespaces/a%20b/sandboxes"]
)
async def test_a_namespace_with_an_impossible_name(server, path):
    check(await server.http.get(path), 400, "NAMESPACE_INVALID")
    check(await server.http.post(path, json={}), 400, "NAMESPACE_INVALID")


async def test_a_body_that_is_too_large(server):
    megabytes = b"x" * (3 * 2**20)
    check(await server.http.post("/sandboxes", content=megabytes), 413, "BODY_TOO_LARGE")

    async def stream():
        yield b'{"image": "'
        for _ in range(3):
            yield b"x" * 2**20

    headers = {"Content-Type": "application/json"}
    response = await server.http.post("/sandboxes", content=stream(), headers=headers)
    check(response, 413, "BODY_TOO_LARGE")
    form = {"application": (None, '{"name":"a"}'), "code": ("c", megabytes * 2)}
    check(await server.http.post(f"{NS}/applications", files=form), 413, "BODY_TOO_LARGE")
    form["code"] = ("c", megabytes)
    assert (await server.http.post(f"{NS}/applications", files=form)).status_code == 200


@pytest.mark.parametrize("length", [0, 256])
async def test_an_idempotency_key_of_an_impossible_length(server, length):
    response = await server.http.post("/sandboxes", headers={"Idempotency-Key": "k" * length})
    check(response, 422, "INVALID_REQUEST")


@pytest.mark.parametrize("path", SANDBOXES)
async def test_a_sandbox_that_does_not_exist(server, path):
    check(await server.http.get(f"{path}/x"), 404, "SANDBOX_NOT_FOUND", "no sandbox 'x'")
    check(await server.http.delete(f"{path}/x"), 404, "SANDBOX_NOT_FOUND", "no sandbox 'x'")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/sandboxes/x/snapshot"),
        ("POST", f"{NS}/sandboxes/x/suspend"),
        ("GET", f"{NS}/snapshots"),
        ("POST", "/sandbox-pools"),
        ("GET", "/sandboxes/sb/logs"),
        ("GET", "/archived-sandboxes"),
        ("GET", "/archived-sandboxes/sb"),
        ("POST", f"{NS}/applications/app"),
    ],
)
async def test_what_is_not_offered_is_said_not_to_be(server, method, path):
    check(await server.http.request(method, path), 501, "UNSUPPORTED_CAPABILITY")


async def test_a_snapshot_cannot_be_restored(server):
    response = await server.http.post("/sandboxes", json={"snapshot_id": "s"})
    check(response, 501, "UNSUPPORTED_CAPABILITY")


async def test_health_and_documentation_need_nothing_from_elsewhere(server):
    health = (await server.http.get("/healthz")).json()
    assert health["status"] == "ok"
    assert health["checks"] == {"database": "ok", "executor_manager": "ok"}
    schema = (await server.http.get("/openapi.json")).json()
    assert (await server.http.get("/docs/public/openapi.json")).json() == schema
    assert "/v1/namespaces/{namespace}/sandboxes/{sandbox_id}" in schema["paths"]
    page = (await server.http.get("/docs")).text
    for path in schema["paths"]:
        assert path in page
    assert "https://" not in page
    assert "<h1>" in (await server.http.get("/")).text
    assert (await server.http.get("/internal/executor_catalog")).json() == {"entries": []}


async def test_a_defect_is_told_with_its_request_id_and_nothing_else(server):
    app = build(Services(plane=None, settings=server.settings))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        check(
            await client.get("/healthz"),
            500,
            "INTERNAL_ERROR",
            "the server has a defect; report the request id",
        )


async def test_browsers_of_other_origins_are_not_let_in(server):
    response = await server.http.get("/healthz", headers={"Origin": "https://example.com"})
    assert "access-control-allow-origin" not in response.headers
