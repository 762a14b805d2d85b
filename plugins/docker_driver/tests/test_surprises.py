"""What nobody expects of an engine, or of its user's files, ends one call and not the driver."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from longshore_core import BackendError, ContainerSpec, PluginCrash
from longshore_core.abc import Host

from tests.engines.between import Exchange

Shell = Callable[..., ContainerSpec]
Opener = Callable[..., object]
PULL = "POST /images/create"


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
    async with open_scripted({}) as runtime:
        with pytest.raises(BackendError, match="configuration of the worker's user is malformed"):
            await runtime.driver.create(shell(image="example.com/x"))


async def test_a_configuration_that_is_a_directory_has_no_credentials(
    open_scripted: Opener, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").mkdir()
    async with open_scripted({}) as runtime:
        with pytest.raises(BackendError, match=r"cannot pull example\.com/x: no such thing"):
            await runtime.driver.create(shell(image="example.com/x"))
