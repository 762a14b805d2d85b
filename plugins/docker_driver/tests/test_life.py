"""Containers on a real engine: what operators see, how they end, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL, SIGSEGV

import anyio
import pytest
from longshore_core import (
    BackendError,
    ContainerSpec,
    EngineUnavailable,
    Exit,
    Handle,
    ImageError,
    Limits,
    Phase,
    UnixReach,
)
from longshore_core.abc import Driver, Host, Runtime
from longshore_core.testing.bench import bare_host
from longshore_docker import longshore_driver

from tests.engines import images
from tests.engines.dockerd import Docker

Shell = Callable[..., ContainerSpec]
MIB = 1 << 20


async def run(driver: Driver, spec: ContainerSpec) -> Handle:
    handle = await driver.create(spec)
    await driver.start(handle)
    return handle


async def end_of(driver: Driver, spec: ContainerSpec) -> Exit:
    with anyio.fail_after(30):
        return await driver.wait(await run(driver, spec))


# What operators see.


async def test_operators_find_it_by_label_and_read_its_output_by_its_id(
    driver: Driver, docker: Docker, shell: Shell
) -> None:
    spec = shell("echo hello; echo there >&2", labels={"namespace": "n1"})
    await end_of(driver, spec)
    label = "label=indexify.managed=true"
    listed = docker.run("ps", "--all", "--filter", label, "--format", "{{.Names}}")
    assert f"indexify-{spec.id}" in listed.split()
    assert docker.run("logs", f"indexify-{spec.id}") == "hello"
    labels = json.loads(
        docker.run("inspect", f"indexify-{spec.id}", "--format", "{{json .Config.Labels}}")
    )
    assert (labels["managed"], labels["namespace"]) == ("true", "n1")


async def test_its_limits_are_in_force(driver: Driver, shell: Shell) -> None:
    script = (
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null |"
        f" grep -qx {64 * MIB} && grep -q 'NoNewPrivs:.1' /proc/self/status"
    )
    spec = shell(script, limits=Limits(memory_bytes=64 * MIB, cpu_millis=20, pids=9))
    assert await end_of(driver, spec) == Exit(code=0)


async def test_a_user_of_the_image_can_write_to_its_sockets(driver: Driver, shell: Shell) -> None:
    script = 'id -u > "$LONGSHORE_SOCKETS/uid"'
    spec = shell(script, image=images.NON_ROOT.reference, sockets=True)
    handle = await driver.create(spec)
    attachment = await driver.start(handle)
    assert isinstance(attachment.reach, UnixReach)
    assert await driver.wait(handle) == Exit(code=0)
    assert Path(attachment.reach.path, "uid").read_text() == "1000\n"


# Ends.


async def test_running_out_of_memory_is_told_from_a_kill(driver: Driver, shell: Shell) -> None:
    hoard = ("python3", "-c", "x = bytearray(200 << 20)")
    limits = Limits(memory_bytes=32 * MIB)
    spec = shell(name="oom", image=images.BASE.reference, argv=hoard, limits=limits)
    assert await end_of(driver, spec) == Exit(signal=SIGKILL, oom=True)
    handle = await run(driver, shell(name="killed", limits=limits))
    await driver.signal(handle, SIGKILL)
    assert await driver.wait(handle) == Exit(signal=SIGKILL)


async def test_a_kill_is_told_from_a_child_that_ran_out_of_memory(
    driver: Driver, shell: Shell
) -> None:
    script = "python3 -c 'x = bytearray(200 << 20)'; touch $LONGSHORE_SOCKETS/out; exec sleep 1000"
    limits = Limits(memory_bytes=32 * MIB)
    spec = shell(script, image=images.BASE.reference, limits=limits, sockets=True)
    handle = await driver.create(spec)
    attachment = await driver.start(handle)
    assert isinstance(attachment.reach, UnixReach)
    with anyio.fail_after(30):
        while not Path(attachment.reach.path, "out").exists():
            await anyio.sleep(0.02)
    await driver.signal(handle, SIGKILL)
    assert await driver.wait(handle) == Exit(signal=SIGKILL)


async def test_a_crash_is_told_from_a_code(driver: Driver, shell: Shell) -> None:
    crash = ("python3", "-c", "import ctypes; ctypes.string_at(0)")
    spec = shell(name="crash", image=images.BASE.reference, argv=crash)
    assert await end_of(driver, spec) == Exit(signal=SIGSEGV)
    assert await end_of(driver, shell("exit 139", name="fault")) != Exit(code=0)
    assert await end_of(driver, shell("exit 137", name="code")) == Exit(code=137)


async def test_a_kill_by_an_operator_is_a_signal(
    driver: Driver, docker: Docker, shell: Shell
) -> None:
    handle = await run(driver, shell())
    docker.run("kill", f"indexify-{handle.id}")
    assert await driver.wait(handle) == Exit(signal=SIGKILL)


async def test_a_container_that_somebody_removes_ends_for_those_who_wait(
    driver: Driver, docker: Docker, shell: Shell
) -> None:
    handle = await run(driver, shell())
    ends = list[Exit]()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                ends.append(await driver.wait(handle))

            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            docker.run("rm", "--force", f"indexify-{handle.id}")
    assert len(ends) == 1
    assert await driver.survey() == []


# Bad input: typed, named, and nothing left. That nothing is left, the fixture sees to.


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"image": "localhost:9/none"}, BackendError, "cannot pull image localhost:9/none: "),
        ({"image": "Not An Image"}, ImageError, "'Not An Image' is no image reference"),
        ({"image": images.FOREIGN.reference}, ImageError, "and this engine runs linux/"),
        ({"limits": Limits(memory_bytes=1)}, BackendError, "asks for 1 bytes of memory"),
    ],
)
async def test_what_cannot_be_made_is_refused_by_name(
    driver: Driver, shell: Shell, change: dict[str, object], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as caught:
        await driver.create(shell(**change))
    assert words in str(caught.value)
    assert await driver.survey() == []


async def test_a_bind_that_does_not_exist_is_refused_by_name(
    open_driver: Callable[..., object], shell: Shell, owner: str, left_of: Callable[..., object]
) -> None:
    async with open_driver(binds=["/nonexistent/place:/in"]) as runtime:
        with pytest.raises(BackendError, match="/nonexistent/place"):
            await runtime.driver.create(shell(sockets=True))
        assert await runtime.driver.survey() == []
    assert left_of(owner) == ([], [])


@pytest.fixture
def image_of(docker: Docker, owner: str) -> Iterator[Callable[[str, str], str]]:
    """An image that a script and an instruction have made of busybox."""
    name = f"made-{owner.partition('/')[0]}"

    def make(script: str, instruction: str) -> str:
        docker.run("run", "--name", name, images.BUSYBOX.reference, "sh", "-c", script)
        docker.run("commit", "--change", instruction, name, name)
        return name

    yield make
    docker.run("rm", "--force", name)
    docker.run("image", "rm", "--force", name)


async def test_a_user_by_name_has_the_number_that_the_image_gives(
    driver: Driver, shell: Shell, image_of: Callable[[str, str], str]
) -> None:
    image = image_of("echo app:x:77:78::/:/bin/sh >> /etc/passwd", "USER app")
    handle = await driver.create(shell('touch "$LONGSHORE_SOCKETS/x"', image=image, sockets=True))
    await driver.start(handle)
    assert await driver.wait(handle) == Exit(code=0)
    await driver.remove(handle)


async def test_an_image_cannot_have_the_worker_read_without_end(
    driver: Driver, shell: Shell, image_of: Callable[[str, str], str]
) -> None:
    image = image_of("truncate -s 64M /etc/passwd", "USER app")
    with pytest.raises(ImageError, match="the image's /etc/passwd has more than 1048576 bytes"):
        await driver.create(shell(image=image, sockets=True))
    assert await driver.survey() == []


async def test_an_engine_that_is_not_there_is_named(host: Host, shell: Shell) -> None:
    plug = longshore_driver()
    config = plug.config.model_validate({"address": "/nonexistent/docker.sock"})
    async with plug.open(config, host) as runtime:
        words = "unix:///nonexistent/docker.sock does not answer .there is no such socket.: start"
        with pytest.raises(EngineUnavailable, match=words):
            await runtime.driver.create(shell())
        with pytest.raises(EngineUnavailable, match=words):
            await runtime.driver.survey()


async def test_a_program_that_does_not_exist_fails_the_start_by_name(
    driver: Driver, shell: Shell
) -> None:
    handle = await driver.create(shell(argv=("/nonexistent/program",)))
    with pytest.raises(BackendError, match="/nonexistent/program"):
        await driver.start(handle)
    (found,) = await driver.survey()
    assert found.phase is Phase.CREATED


# Others on the same engine.


async def test_a_name_that_somebody_else_has_is_refused_and_theirs_left_alone(
    driver: Driver, docker: Docker, shell: Shell
) -> None:
    spec = shell()
    name = f"indexify-{spec.id}"
    theirs = docker.run("create", "--name", name, images.BUSYBOX.reference, "true")
    try:
        with pytest.raises(BackendError) as caught:
            await driver.create(spec)
        assert str(caught.value) == (
            f"cannot create container {spec.id}: the name {name} is taken by container "
            f"{theirs[:12]} of somebody else, which runs {images.BUSYBOX.reference}; rename or "
            "remove it"
        )
        await driver.remove(Handle(id=spec.id))
        await driver.signal(Handle(id=spec.id), SIGKILL)
        assert docker.run("inspect", "--format", "{{.Id}}", name) == theirs
        assert await driver.survey() == []
    finally:
        docker.run("rm", "--force", theirs)


async def test_a_stale_container_of_ours_is_replaced_when_its_spec_is_another(
    driver: Driver, shell: Shell
) -> None:
    await driver.create(shell("exit 1"))
    assert await end_of(driver, shell("exit 2")) == Exit(code=2)
    assert len(await driver.survey()) == 1


async def test_a_container_that_runs_is_not_replaced(driver: Driver, shell: Shell) -> None:
    handle = await run(driver, shell())
    (before,) = await driver.survey()
    assert await driver.create(shell("exit 2")) == handle
    assert await driver.survey() == [before]


async def test_another_workers_containers_are_not_seen(
    driver: Driver, open_driver: Callable[..., object], shell: Shell, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    await run(driver, shell())
    async with open_driver(bare_host("docker", "somebody/driver", other)) as runtime:
        assert await runtime.driver.survey() == []
        with pytest.raises(BackendError, match="of the worker w-"):
            await runtime.driver.create(shell())
    assert [found.phase for found in await driver.survey()] == [Phase.RUNNING]


async def test_a_copy_that_somebody_made_of_a_container_is_theirs(
    driver: Driver, docker: Docker, shell: Shell
) -> None:
    handle = await run(driver, shell())
    image, copy = f"copy-of-{handle.id}", f"zz-{handle.id}"
    # With all its labels.
    docker.run("commit", f"indexify-{handle.id}", image)
    try:
        docker.run("run", "--name", copy, "--entrypoint", "sh", image, "-c", "true")
        (found,) = await driver.survey()
        assert found.phase is Phase.RUNNING
    finally:
        docker.run("rm", "--force", copy)
        docker.run("image", "rm", image)


# Recovery.


async def test_the_next_worker_adopts_what_runs(
    open_driver: Callable[..., object], shell: Shell
) -> None:
    async with open_driver() as runtime:
        handle = await run(runtime.driver, shell())
        (before,) = await runtime.driver.survey()
    async with open_driver() as runtime:
        assert await runtime.driver.survey() == [before]
        await runtime.driver.remove(handle)
        assert await runtime.driver.survey() == []


async def test_a_create_that_is_cancelled_leaves_nothing_or_a_container(
    driver: Driver, shell: Shell
) -> None:
    for number in range(10):
        with anyio.move_on_after(0.004 * number):
            await driver.create(shell(name=f"c{number}", sockets=True))
    for found in await driver.survey():
        await driver.remove(found.handle)


# Abilities.


async def test_what_the_engine_can_do_is_declared(runtime: Runtime) -> None:
    declared = (runtime.images, runtime.health, runtime.pause, runtime.usage, runtime.logs)
    assert None not in declared
    assert runtime.exec is not None
    assert runtime.facts.pause_with_memory


async def test_the_first_fingerprint_of_an_engine_that_is_down_comes_within_a_second(
    host: Host,
) -> None:
    plug = longshore_driver()
    config = plug.config.model_validate({"address": "/nonexistent/docker.sock"})
    async with plug.open(config, host) as runtime:
        assert runtime.health is not None
        with anyio.fail_after(1):
            async with runtime.health.fingerprints() as prints:
                first = await anext(prints)
        assert not first.healthy
        assert "/nonexistent/docker.sock does not answer" in first.reason


async def test_a_fingerprint_has_version_free_resources_and_images(runtime: Runtime) -> None:
    assert runtime.health is not None
    async with runtime.health.fingerprints() as prints:
        first = await anext(prints)
    assert first.healthy
    assert first.engine.startswith("Docker ")
    assert images.BUSYBOX.reference in first.images
    assert (first.free.cpu_millis or 0) >= 1000
    assert (first.free.memory_bytes or 0) > 0


async def test_logs_can_be_followed_to_the_end_and_read_from_an_offset(
    runtime: Runtime, shell: Shell
) -> None:
    assert runtime.logs is not None
    handle = await run(runtime.driver, shell("echo one; echo two >&2; exec sleep 0.2"))
    with anyio.fail_after(10):
        async with runtime.logs.logs(handle, follow=True) as chunks:
            whole = b"".join([chunk.data async for chunk in chunks])
    assert sorted(whole.split()) == [b"one", b"two"]
    async with runtime.logs.logs(handle, offset=5) as chunks:
        assert b"".join([chunk.data async for chunk in chunks]) == whole[5:]
