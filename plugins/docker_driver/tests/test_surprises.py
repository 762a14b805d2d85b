"""What nobody expects of an engine, or of its user's files, ends one call and not the driver."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anyio
import longshore_docker.driver
import pytest
from longshore_core import (
    BackendError,
    ContainerSpec,
    EngineUnavailable,
    Handle,
    Limits,
    PluginCrash,
    UnsupportedCapability,
)
from longshore_core.abc import Host

from tests.engines.between import Exchange

Shell = Callable[..., ContainerSpec]
Opener = Callable[..., object]
PULL = "POST /images/create"
STATE = {
    "Status": "exited",
    "Pid": 0,
    "ExitCode": 137,
    "OOMKilled": False,
    "StartedAt": "2026-01-01T00:00:00Z",
}


async def test_a_surprise_in_a_pull_is_told_to_who_asked_and_ends_nothing_else(
    open_scripted: Opener, shell: Shell
) -> None:
    async def pull(exchange: Exchange) -> None:
        await exchange.answer(["no", "object"])

    async with open_scripted({PULL: pull}) as runtime:
        for _ in range(2):
            with pytest.raises(PluginCrash, match=r"pull of image .* raised AttributeError: "):
                await runtime.driver.create(shell())
        assert await runtime.driver.survey() == []


async def test_a_surprise_in_a_pull_ahead_of_time_is_logged(
    open_scripted: Opener, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    tried = anyio.Event()

    async def pull(exchange: Exchange) -> None:
        await exchange.answer(["no", "object"])
        tried.set()

    async with open_scripted({PULL: pull}, prepull=["example.com/x"]) as runtime:
        with anyio.fail_after(10):
            await tried.wait()
            while "docker_image_not_pulled" not in caplog.text:
                await anyio.sleep(0.01)
        assert await runtime.driver.survey() == []


async def test_an_engine_that_stops_in_the_middle_of_an_answer_is_away(
    open_scripted: Opener, shell: Shell, owner: str
) -> None:
    """Also where the SDK reads by itself, and raises what its libraries do."""

    async def container(exchange: Exchange) -> None:
        await exchange.answer(
            {
                "Id": "c",
                "Name": "/c",
                "Image": "i",
                "State": STATE,
                "Config": {"Labels": {"longshore.owner": owner}},
                "HostConfig": {"NetworkMode": "none"},
                "NetworkSettings": {},
            }
        )

    async def events(exchange: Exchange) -> None:
        if "until" in exchange.query:
            await exchange.cut_off()
        else:
            await exchange.begin()
            await anyio.sleep_forever()

    spec = shell()
    script = {f"GET /containers/indexify-{spec.id}/json": container, "GET /events": events}
    async with open_scripted(script) as runtime:
        with pytest.raises(EngineUnavailable, match=r"went away|does not answer"):
            await runtime.driver.wait(Handle(id=spec.id))


async def test_a_container_that_stays_on_the_engine_is_not_said_to_be_removed(
    open_scripted: Opener, shell: Shell, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's removal of it has begun, and does not come to its end."""
    monkeypatch.setattr(longshore_docker.driver, "_GONE_SECONDS", 0.5)

    async def container(exchange: Exchange) -> None:
        await exchange.answer(
            {
                "Id": "c",
                "Name": f"/indexify-{spec.id}",
                "Image": "i",
                "State": {**STATE, "ExitCode": 0},
                "Config": {"Labels": {"longshore.owner": owner}},
                "HostConfig": {"NetworkMode": "none"},
                "NetworkSettings": {},
            }
        )

    async def remove(exchange: Exchange) -> None:
        await exchange.answer({"message": "removal of container c is already in progress"}, 409)

    spec = shell()
    script = {
        f"GET /containers/indexify-{spec.id}/json": container,
        "GET /containers/c/json": container,
        "DELETE /containers/c": remove,
    }
    async with open_scripted(script) as runtime:
        with pytest.raises(BackendError) as caught:
            await runtime.driver.remove(Handle(id=spec.id))
    assert str(caught.value) == f"container indexify-{spec.id} is still there"
    assert caught.value.retryable


@pytest.mark.parametrize(
    "content",
    [[], {"credHelpers": ["ecr"]}, {"auths": {"r": "secret"}}, {"auths": {"r": {"auth": "eA=="}}}],
)
async def test_a_configuration_that_is_none_is_named(
    open_scripted: Opener,
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: object,
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(content))
    # Nor is the engine asked again and again on the way out, as one that is busy.
    with anyio.fail_after(15):
        async with open_scripted({}) as runtime:
            words = "configuration of the worker's user is malformed"
            with pytest.raises(BackendError, match=words):
                await runtime.driver.create(shell(image="example.com/x"))


async def test_a_configuration_that_is_a_directory_has_no_credentials(
    open_scripted: Opener, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").mkdir()
    async with open_scripted({}) as runtime:
        with pytest.raises(BackendError, match=r"cannot pull example\.com/x: no such thing"):
            await runtime.driver.create(shell(image="example.com/x"))


async def test_a_limit_that_the_engine_leaves_out_leaves_no_container(
    open_between: Opener, shell: Shell
) -> None:
    warning = "Your kernel does not support memory limit capabilities. Limitation discarded."

    async def engine(exchange: Exchange) -> None:
        if exchange.request == "POST /containers/create" and "indexify" in exchange.query:
            await exchange.engines_answer()
            await exchange.answer({"Id": "0" * 64, "Warnings": [warning]}, 201)
        else:
            await exchange.forward()

    async with open_between(engine) as runtime:
        with pytest.raises(UnsupportedCapability, match="Limitation discarded"):
            await runtime.driver.create(shell(limits=Limits(memory_bytes=64 << 20)))
        assert await runtime.driver.survey() == []
