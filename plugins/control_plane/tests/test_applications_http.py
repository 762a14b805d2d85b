"""What callers are promised about applications."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

PATH = "/v1/namespaces/default/applications"


def _blobs(server):
    directory = Path(server.settings.blob_storage.directory)
    return sorted(directory.iterdir()) if directory.exists() else []


@pytest.mark.parametrize("code_first", [True, False])
async def test_parts_come_in_any_order(server, manifest, code_first):
    parts = [
        ("application", (None, json.dumps(manifest))),
        ("upgrade_requests_to_latest_code", (None, "true")),
        ("code_content_type", (None, "application/zip")),
    ]
    code = ("code", ("code.zip", b"PK" * 1000))
    files = [code, *parts] if code_first else [*parts, code]
    response = await server.http.post(PATH, files=files)
    assert (response.status_code, response.content) == (200, b"")
    (blob,) = _blobs(server)
    assert blob.name.startswith("default_")
    assert hashlib.sha256(blob.read_bytes()).digest() == hashlib.sha256(b"PK" * 1000).digest()
    shown = (await server.http.get(f"{PATH}/app")).json()
    assert shown["entrypoint"]["inputs_base64"] == "gASV\n"
    assert shown["state"] == "active"
    assert shown["namespace"] == "default"
    assert shown["created_at"] > 1e12


async def test_an_application_without_functions_needs_no_code(server):
    form = {"application": (None, '{"name":"test-app","functions":{}}')}
    assert (await server.http.post(PATH, files=form)).status_code == 200
    assert (await server.http.get(f"{PATH}/test-app")).json()["functions"] == {}


async def test_deploying_again_replaces_and_deleting_removes_the_code(server, manifest):
    form = {"application": (None, json.dumps(manifest)), "code": ("c.zip", b"one")}
    await server.http.post(PATH, files=form)
    form["code"] = ("c.zip", b"two")
    await server.http.post(PATH, files=form)
    (blob,) = _blobs(server)
    assert blob.read_bytes() == b"two"
    for _ in range(2):
        response = await server.http.delete(f"{PATH}/app")
        assert (response.status_code, response.content) == (200, b"")
    assert _blobs(server) == []
    assert (await server.http.get(f"{PATH}/app")).json()["code"] == "APPLICATION_NOT_FOUND"


async def test_the_list_is_of_one_namespace_and_cut_into_pages(server):
    for namespace, name in (("a", "one"), ("a", "three"), ("a", "two"), ("ab", "other")):
        form = {"application": (None, json.dumps({"name": name, "functions": {}}))}
        await server.http.post(f"/v1/namespaces/{namespace}/applications", files=form)
    path = "/v1/namespaces/a/applications"
    first = (await server.http.get(path, params={"limit": 2})).json()
    assert [one["name"] for one in first["applications"]] == ["one", "three"]
    rest = (await server.http.get(path, params={"limit": 2, "cursor": first["cursor"]})).json()
    assert [one["name"] for one in rest["applications"]] == ["two"]
    assert rest["cursor"] is None
    back = (await server.http.get(path, params={"direction": "backward"})).json()
    assert [one["name"] for one in back["applications"]] == ["two", "three", "one"]


async def test_an_application_survives_a_restart(serve_here, manifest):
    form = {"application": (None, json.dumps(manifest)), "code": ("c.zip", b"one")}
    async with serve_here() as server:
        await server.http.post(PATH, files=form)
    async with serve_here() as server:
        assert (await server.http.get(f"{PATH}/app")).json()["name"] == "app"
        assert (await server.http.get(f"{PATH}/app/sandboxes")).json() == {"sandboxes": []}


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"code": ("c", b"x")}, "application manifest is required"),
        ({"application": (None, "{")}, "the manifest is not JSON"),
        ({"application": (None, "[]")}, "the manifest is not a JSON object"),
        ({"application": (None, '{"name":"a","x":"\\ud800"}')}, "the manifest is not JSON: "),
        ({"application": (None, '{"name":"a","x":NaN}')}, "the manifest is not JSON: NaN"),
        ({"application": (None, "{}")}, "the manifest cannot be used: name: Field required"),
        ({"application": (None, '{"name":"a/b"}')}, "the manifest cannot be used: name: "),
        (
            {"application": (None, '{"name":"a","functions":{"f":{}}}')},
            "code is required: the application has functions",
        ),
        (
            {"application": (None, '{"name":"a","functions":{"f":{}}}'), "code": ("c", b"x")},
            "an entrypoint is required",
        ),
        (
            {"application": (None, '{"name":"a"}'), "code_content_type": (None, "text/plain")},
            "code_content_type must be application/zip; it is text/plain",
        ),
    ],
)
async def test_a_manifest_that_cannot_be_used_is_refused_with_the_reason(server, form, message):
    response = await server.http.post(PATH, files=form)
    assert response.status_code == 400, response.text
    assert response.json()["code"] == "APPLICATION_INVALID"
    assert response.json()["message"].startswith(message)
    assert _blobs(server) == []
