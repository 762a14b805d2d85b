"""The sandbox daemon, put into images that have nothing of what it needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from longshore_core import ContainerId, ContainerSpec, Launch
from longshore_core.abc import Guest, Runtime
from longshore_core.testing.bench import bare_host
from longshore_core.testing.session import TOKEN, Sandbox
from longshore_core.testing.subject import find_subject

from tests.engines import images
from tests.engines.images import Image


@pytest.fixture(scope="session")
def runtime_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runtimes")


@pytest.fixture
async def guest(runtime_dir: Path, tmp_path: Path) -> Guest:
    subject = find_subject("sandbox_daemon", {"runtime_dir": str(runtime_dir)}, kind="guest")
    async with subject.open(bare_host("sandbox_daemon", "w/guest", tmp_path)) as opened:
        yield opened


async def sandbox(runtime: Runtime, guest: Guest, image: Image, id_: str) -> Sandbox:
    asked = ContainerSpec(id=ContainerId(id_), image=image.reference, argv=("unused",))
    handle = await runtime.driver.create(guest.launch(asked, runtime.facts))
    attachment = await runtime.driver.start(handle)
    assert attachment.reach is not None
    with anyio.fail_after(30):
        session = await guest.connect(attachment.reach)
        await session.go(Launch(token=TOKEN))
        await session.aclose()
    return Sandbox(handle=handle, reach=attachment.reach)


PROGRAMS = [
    (images.BUSYBOX, ("sh", "-c", "echo hello")),
    (images.NON_ROOT, ("sh", "-c", "echo hello")),
    (images.NO_TMP, ("sh", "-c", "echo hello")),
    (images.NO_SHELL, ("/app/busybox", "echo", "hello")),
    (images.BASE, ("python3", "-c", "print('hello')")),
]


@pytest.mark.parametrize(("image", "argv"), PROGRAMS, ids=lambda each: getattr(each, "name", None))
async def test_programs_run_in_any_image(
    runtime: Runtime, guest: Guest, owner: str, image: Image, argv: tuple[str, ...]
) -> None:
    inside = await sandbox(runtime, guest, image, owner[:10])
    done = await inside.run(*argv)
    assert (done.code, done.stdout, done.stderr) == (0, b"hello\n", b"")


async def test_an_empty_image_has_a_daemon_and_nothing_to_run(
    runtime: Runtime, guest: Guest, owner: str
) -> None:
    inside = await sandbox(runtime, guest, images.EMPTY, owner[:10])
    assert (await inside.ask("GET", "health")).status == 200
    assert (await inside.list("/")).status == 200


@pytest.mark.parametrize("image", [images.BUSYBOX, images.NON_ROOT], ids=lambda image: image.name)
async def test_it_runs_where_nothing_can_be_written(
    open_driver: Callable[..., object], guest: Guest, owner: str, image: Image
) -> None:
    async with open_driver(read_only=True) as runtime:
        inside = await sandbox(runtime, guest, image, owner[:10])
        done = await inside.run("sh", "-c", "echo hello; touch /new")
        assert (done.code, done.stdout) == (1, b"hello\n")
        await runtime.driver.remove(inside.handle)


async def test_an_image_gets_no_code_into_the_daemon_and_its_programs_keep_its_environment(
    runtime: Runtime, guest: Guest, owner: str
) -> None:
    inside = await sandbox(runtime, guest, images.HOSTILE, owner[:10])
    done = await inside.run("sh", "-c", 'echo "$LD_PRELOAD $LD_LIBRARY_PATH"; cat /proc/1/maps')
    first, _, maps = done.stdout.decode().partition("\n")
    assert first == "/evil.so /evil"
    assert "evil" not in maps


async def test_what_the_daemon_and_the_entrypoint_write_is_in_the_engines_log(
    runtime: Runtime, guest: Guest, docker: object, owner: str
) -> None:
    asked = ContainerSpec(id=ContainerId(owner[:10]), image=images.BUSYBOX.reference, argv=("x",))
    handle = await runtime.driver.create(guest.launch(asked, runtime.facts))
    attachment = await runtime.driver.start(handle)
    assert attachment.reach is not None
    session = await guest.connect(attachment.reach)
    await session.go(Launch(token=TOKEN, entrypoint=("sh", "-c", "echo from the entrypoint")))
    assert runtime.logs is not None
    with anyio.fail_after(10):
        async with runtime.logs.logs(handle, follow=True) as chunks:
            async for chunk in chunks:
                if b"from the entrypoint" in chunk.data:
                    break
