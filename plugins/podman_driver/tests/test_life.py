"""Containers on a real engine: what operators see, how they end, and what is refused."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
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
    RegistryError,
    UnixReach,
    UnsupportedCapability,
)
from longshore_core.abc import Driver, Host
from longshore_core.testing.bench import bare_host
from longshore_podman import longshore_driver

from tests.engines import images
from tests.engines.podman import Podman

Shell = Callable[..., ContainerSpec]
Opener = Callable[..., object]
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
    driver: Driver, podman: Podman, shell: Shell
) -> None:
    spec = shell("echo hello; echo there >&2", labels={"namespace": "n1", "managed": "no"})
    await end_of(driver, spec)
    label = "label=indexify.managed=true"
    listed = podman.run("ps", "--all", "--filter", label, "--format", "{{.Names}}")
    assert f"indexify-{spec.id}" in listed.split()
    assert podman.run("logs", f"indexify-{spec.id}") == "hello"
    labels = json.loads(podman.run("inspect", f"indexify-{spec.id}"))[0]["Config"]["Labels"]
    assert (labels["managed"], labels["namespace"]) == ("true", "n1")


async def test_its_limits_and_restraints_are_in_force(driver: Driver, shell: Shell) -> None:
    script = (
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null |"
        f" grep -qx {64 * MIB} && grep -q 'NoNewPrivs:.1' /proc/self/status"
        " && ! (mount -t tmpfs none /tmp || mknod /tmp/x c 1 3) 2>/dev/null"
    )
    spec = shell(script, limits=Limits(memory_bytes=64 * MIB, cpu_millis=20, pids=9))
    assert await end_of(driver, spec) == Exit(code=0)


async def test_a_user_of_the_image_can_write_to_its_sockets_and_is_without_privileges(
    driver: Driver, shell: Shell
) -> None:
    script = '{ id -u; grep -E "Cap(Eff|Amb)" /proc/self/status; } > "$LONGSHORE_SOCKETS/said"'
    handle = await driver.create(shell(script, image=images.NON_ROOT.reference, sockets=True))
    attachment = await driver.start(handle)
    assert isinstance(attachment.reach, UnixReach)
    assert await driver.wait(handle) == Exit(code=0)
    uid, *capabilities = Path(attachment.reach.path, "said").read_text().splitlines()
    assert uid == "1000"
    assert [line.split()[1] for line in capabilities] == ["0" * 16] * 2


# Ends.


async def test_running_out_of_memory_is_told_from_a_kill(driver: Driver, shell: Shell) -> None:
    hoard = ("python3", "-c", "x = bytearray(200 << 20)")
    limits = Limits(memory_bytes=32 * MIB)
    spec = shell(name="oom", image=images.BASE.reference, argv=hoard, limits=limits)
    assert await end_of(driver, spec) == Exit(signal=SIGKILL, oom=True)
    handle = await run(driver, shell(name="killed", limits=limits))
    await driver.signal(handle, SIGKILL)
    assert await driver.wait(handle) == Exit(signal=SIGKILL)


async def test_a_child_that_ran_out_of_memory_is_not_how_it_ends_later(
    driver: Driver, podman: Podman, shell: Shell
) -> None:
    hoard = "python3 -c 'x = bytearray(200 << 20)' || echo $? > $LONGSHORE_SOCKETS/child; "
    rest = {
        "image": images.BASE.reference,
        "sockets": True,
        "limits": Limits(memory_bytes=32 * MIB),
    }

    async def once_its_child_is_dead(name: str, then: str = "exec sleep 1000") -> Handle:
        handle = await driver.create(shell(hoard + then, name, **rest))
        attachment = await driver.start(handle)
        assert isinstance(attachment.reach, UnixReach)
        said = Path(attachment.reach.path, "child")
        with anyio.fail_after(20):
            while not said.exists() or said.read_text() != "137\n":
                await anyio.sleep(0.02)
        return handle

    assert await driver.wait(await once_its_child_is_dead("code", "exit 3")) == Exit(code=3)
    handle = await once_its_child_is_dead("ours")
    await driver.signal(handle, SIGKILL)
    assert await driver.wait(handle) == Exit(signal=SIGKILL)
    handle = await once_its_child_is_dead("theirs")
    podman.run("kill", f"indexify-{handle.id}")
    assert await driver.wait(handle) == Exit(signal=SIGKILL)


async def test_a_crash_is_told_from_a_code(driver: Driver, shell: Shell) -> None:
    crash = ("python3", "-c", "import ctypes; ctypes.string_at(0)")
    spec = shell(name="crash", image=images.BASE.reference, argv=crash)
    assert await end_of(driver, spec) == Exit(signal=SIGSEGV)
    assert await end_of(driver, shell("exit 139", name="fault")) == Exit(code=139)
    assert await end_of(driver, shell("exit 137", name="code")) == Exit(code=137)


async def test_a_kill_by_an_operator_is_a_signal(
    driver: Driver, podman: Podman, shell: Shell
) -> None:
    handle = await run(driver, shell())
    podman.run("kill", f"indexify-{handle.id}")
    assert await driver.wait(handle) == Exit(signal=SIGKILL)


async def test_a_container_that_somebody_removes_ends_for_those_who_wait(
    driver: Driver, podman: Podman, shell: Shell
) -> None:
    handle = await run(driver, shell())
    ends = list[Exit]()

    async def wait() -> None:
        ends.append(await driver.wait(handle))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            podman.run("rm", "--force", "--time", "0", f"indexify-{handle.id}")
    assert len(ends) == 1
    assert await driver.survey() == []
    await driver.remove(handle)


async def test_how_it_ended_is_known_to_the_next_worker_as_well(
    open_driver: Opener, shell: Shell
) -> None:
    async with open_driver() as runtime:
        handle = await run(runtime.driver, shell("exit 137"))
        await runtime.driver.wait(handle)
    async with open_driver() as runtime:
        assert await runtime.driver.wait(handle) == Exit(code=137)
        await runtime.driver.remove(handle)


# Bad input: typed, named, and nothing left. That nothing is left, the fixture sees to.


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"image": "127.0.0.1:9/none"}, RegistryError, "image '127.0.0.1:9/none' cannot be pulled"),
        ({"image": "Not An Image"}, ImageError, "'Not An Image' is no reference of an image"),
        ({"image": "UPPER/case"}, ImageError, "image 'UPPER/case'"),
        ({"image": None}, ImageError, "names no image"),
        ({"image": images.FOREIGN.reference}, ImageError, "this engine runs linux/"),
        ({"limits": Limits(memory_bytes=1)}, BackendError, "asks for 1 bytes of memory"),
        ({"limits": Limits(disk_bytes=1 << 30)}, UnsupportedCapability, "cannot limit disk"),
        ({"argv": ()}, BackendError, "argv is empty"),
        ({"env": {"A=B": "c"}}, BackendError, "env has a name that is empty or holds '='"),
    ],
)
async def test_what_cannot_be_made_is_refused_by_name(
    driver: Driver, shell: Shell, change: dict[str, object], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as caught:
        await driver.create(shell(**change))
    assert words in str(caught.value)
    assert await driver.survey() == []


async def test_a_pull_that_breaks_in_a_way_nobody_has_thought_of_ends_nothing_else(
    driver: Driver, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"credHelpers": {"127.0.0.1:9": "no\0name"}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
    with pytest.raises(BackendError, match="cannot be pulled: ValueError: embedded null byte"):
        await driver.create(shell(image="127.0.0.1:9/none"))
    assert await end_of(driver, shell("exit 3")) == Exit(code=3)


async def test_a_pull_that_takes_too_long_is_no_fault_of_the_images(
    open_driver: Opener, shell: Shell
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        image = f"127.0.0.1:{silent.getsockname()[1]}/none"
        async with open_driver(pull_timeout_seconds=0.5) as runtime:
            with pytest.raises(RegistryError, match=r"within 0\.5 s") as caught:
                await runtime.driver.create(shell(image=image))
    assert caught.value.retryable


async def test_an_id_that_is_no_name_is_refused_by_name(driver: Driver, shell: Shell) -> None:
    with pytest.raises(BackendError, match=r"container id 'w-.*-a/b' cannot name a container"):
        await driver.create(shell(name="a/b"))


async def test_a_bind_that_does_not_exist_is_refused_by_name(
    open_driver: Opener, shell: Shell, owner: str, left_of: Callable[[str], list[str]]
) -> None:
    async with open_driver(binds=["/nonexistent/place:/in"]) as runtime:
        with pytest.raises(BackendError, match="/nonexistent/place"):
            await runtime.driver.create(shell(sockets=True))
        assert await runtime.driver.survey() == []
    assert left_of(owner) == []


async def test_an_engine_that_is_not_there_is_named(
    open_driver: Opener, host: Host, shell: Shell
) -> None:
    async with open_driver(address="/nonexistent/podman.sock", network="none") as runtime:
        words = "no Podman at unix:///nonexistent/podman.sock: .*; is its service running"
        with pytest.raises(EngineUnavailable, match=words):
            await runtime.driver.create(shell())
        with pytest.raises(EngineUnavailable, match=words):
            await runtime.driver.survey()
        with anyio.fail_after(1):
            async with runtime.health.fingerprints() as prints:
                first = await anext(prints)
        assert (first.healthy, "/nonexistent/podman.sock" in first.reason) == (False, True)


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
    driver: Driver, podman: Podman, shell: Shell
) -> None:
    spec = shell()
    name = f"indexify-{spec.id}"
    theirs = podman.run("create", "--name", name, images.BUSYBOX.reference, "true")
    try:
        with pytest.raises(BackendError) as caught:
            await driver.create(spec)
        assert str(caught.value) == (
            f"cannot create container {spec.id}: the name {name} is taken by container "
            f"{theirs[:12]} of somebody else; rename or remove it"
        )
        await driver.remove(Handle(id=spec.id))
        await driver.signal(Handle(id=spec.id), SIGKILL)
        assert podman.run("inspect", "--format", "{{.Id}}", name) == theirs
        assert await driver.survey() == []
    finally:
        podman.run("rm", "--force", theirs)


async def test_a_stale_container_of_ours_is_replaced_when_its_spec_is_another(
    driver: Driver, shell: Shell
) -> None:
    await driver.create(shell("exit 1"))
    assert await end_of(driver, shell("exit 2")) == Exit(code=2)
    assert len(await driver.survey()) == 1


async def test_another_workers_containers_are_not_seen(
    driver: Driver, open_driver: Opener, shell: Shell, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    await run(driver, shell())
    async with open_driver(bare_host("podman", "somebody/driver", other)) as runtime:
        assert await runtime.driver.survey() == []
        with pytest.raises(BackendError, match="of the worker w-"):
            await runtime.driver.create(shell())
    assert [found.phase for found in await driver.survey()] == [Phase.RUNNING]


async def test_what_somebody_runs_from_a_copy_of_ours_is_theirs(
    driver: Driver, podman: Podman, shell: Shell
) -> None:
    """An image that is made of a container has its labels."""
    ours = await run(driver, shell())
    other = shell(name="other")
    podman.run("commit", "--quiet", f"indexify-{ours.id}", "localhost/longshore/copy")
    copies = ("zz", f"indexify-{other.id}")
    try:
        for name in copies:
            podman.run("run", "--name", name, "--entrypoint", "", "longshore/copy", "true")
        assert [found.handle for found in await driver.survey()] == [ours]
        await driver.remove(Handle(id=other.id))
        with pytest.raises(BackendError, match=f"the name indexify-{other.id} is taken"):
            await driver.create(other)
        await driver.remove(ours)
        assert podman.run("inspect", "--format", "{{.Name}}", *copies).split() == [*copies]
    finally:
        podman.run("rm", "--force", *copies)
        podman.run("rmi", "localhost/longshore/copy")


# Recovery.


async def test_the_next_worker_adopts_what_runs(open_driver: Opener, shell: Shell) -> None:
    async with open_driver() as runtime:
        handle = await run(runtime.driver, shell(sockets=True))
        (before,) = await runtime.driver.survey()
    async with open_driver() as runtime:
        assert await runtime.driver.survey() == [before]
        await runtime.driver.remove(handle)
        assert await runtime.driver.survey() == []


async def test_creates_that_are_cancelled_leave_nothing_or_a_container(
    driver: Driver, shell: Shell, host: Host
) -> None:
    for number in range(12):
        with anyio.move_on_after(0.006 * number):
            await driver.create(shell(name=f"c{number}", sockets=True))
    made = {found.id for found in await driver.survey()}
    assert {path.name for path in host.state_dir.iterdir() if path.is_dir()} == made


async def test_fifty_at_once_lose_nothing(driver: Driver, shell: Shell) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(driver.create, shell(name=f"c{number}"))
    found = await driver.survey()
    assert len(found) == 50
    async with anyio.create_task_group() as tasks:
        for each in found:
            tasks.start_soon(driver.remove, each.handle)


def test_a_config_that_loosens_too_much_is_refused() -> None:
    config = longshore_driver().config
    for bad in ({"privileged": True}, {"network": "host"}, {"binds": ["a:b"]}, {"subnet": "x"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            config.model_validate(bad)
