"""What a container must not see, reach, or inherit."""

from __future__ import annotations

import os
from typing import Final

import anyio

from longshore_core._model import UnixReach
from longshore_core.testing.bench import Bench
from longshore_core.testing.expect import equal, expect
from longshore_core.testing.law import IMAGES, SOCKETS, Group, Law, Profile, laws_in

_PROFILES: Final = frozenset({Profile.CORE, Profile.FULL, Profile.SECURITY})
ISO: Final[Group[Bench]] = Group("iso", requires=(SOCKETS,), profiles=_PROFILES)

_TO: Final = '> "$LONGSHORE_SOCKETS/said.part"'
_ALLOWED_CAPABILITIES: Final = 0x00000000A80425FB
"""Those that engines leave by default: what is beyond is privilege."""


# Of every driver that runs programs.


@ISO.law("S0")
async def it_holds_no_descriptor_of_the_worker(bench: Bench) -> None:
    secret = bench.scratch / "secret-of-the-worker"
    with secret.open("w") as file:
        os.set_inheritable(file.fileno(), True)
        said = await _said(bench, f"ls -l /proc/$$/fd {_TO}")
    expect("secret-of-the-worker" not in said, f"it holds a file of the worker's: {said}")


@ISO.law("S0.2")
async def it_reads_nothing_from_the_worker(bench: Bench) -> None:
    said = await _said(bench, f"cat {_TO}")
    equal(said, "", "what it reads on its input")


@ISO.law("S0.3")
async def its_signals_are_those_of_a_fresh_process(bench: Bench) -> None:
    said = await _said(bench, f'grep -E "Sig(Blk|Ign)" /proc/self/status {_TO}')
    masks = [int(line.split()[1], 16) & ~(0b11 << 31) for line in said.splitlines()]
    equal(masks, [0, 0], "signals that are blocked, and that are ignored")


@ISO.law("S0.4")
async def it_leads_a_session_of_its_own(bench: Bench) -> None:
    said = await _said(bench, f'cut -d" " -f1,6 /proc/$$/stat {_TO}')
    pid, session = said.split()
    equal(session, pid, "its session")


@ISO.law("S0.5")
async def it_does_not_inherit_what_is_private_to_the_worker(bench: Bench) -> None:
    names = {"LONGSHORE_TOKEN_FILE": "a", "AWS_SECRET_ACCESS_KEY": "b", "PYTHONPATH": "c"}
    kept = {name: os.environ.get(name) for name in names}
    os.environ.update({name: f"private-{value}" for name, value in names.items()})
    try:
        said = await _said(bench, f"env {_TO}")
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    shown = [line for line in said.splitlines() if "=private-" in line]
    equal(shown, [], "variables of the worker's that it sees")


@ISO.law("S0.6")
async def two_containers_have_directories_apart(bench: Bench) -> None:
    reaches = list[str]()
    for name in ("one", "two"):
        handle = await bench.driver.create(bench.spec(name, "{ready}exec sleep 1000"))
        attachment = await bench.driver.start(handle)
        await bench.told(attachment, "ready")
        if isinstance(attachment.reach, UnixReach):
            reaches.append(str(await anyio.Path(attachment.reach.path).resolve()))
    equal(len(set(reaches)), 2, "directories for the sockets of two containers")


# Of those with a file system of their own.


@ISO.law("S1", requires=(IMAGES,))
async def it_does_not_see_the_files_of_the_host(bench: Bench) -> None:
    planted = bench.scratch / "planted"
    planted.write_text("of the host")
    done = await (await bench.sandbox()).run("cat", str(planted))
    expect(b"of the host" not in done.stdout, f"it reads {planted}")


@ISO.law("S2", requires=(IMAGES,))
async def what_it_writes_is_not_on_the_host(bench: Bench) -> None:
    mark = anyio.Path(f"/tmp/{bench.mark}-written")
    await (await bench.sandbox()).run("sh", "-c", f"echo x > {mark}")
    expect(not await mark.exists(), f"{mark} is on the host")


@ISO.law("S3", requires=(IMAGES,))
async def it_finds_no_socket_of_an_engine(bench: Bench) -> None:
    script = "ls /var/run/docker.sock /run/docker.sock /run/containerd/containerd.sock 2>/dev/null"
    done = await (await bench.sandbox()).run("sh", "-c", script)
    equal(done.stdout, b"", "sockets of engines that it finds")


@ISO.law("S4", requires=(IMAGES,))
async def it_has_no_privilege_beyond_the_usual(bench: Bench) -> None:
    status = await _status(bench)
    effective = int(status["CapEff"], 16)
    expect(effective & ~_ALLOWED_CAPABILITIES == 0, f"its capabilities are {effective:#x}")


@ISO.law("S5", requires=(IMAGES,))
async def it_can_gain_no_privilege(bench: Bench) -> None:
    equal((await _status(bench)).get("NoNewPrivs"), "1", "NoNewPrivs")


@ISO.law("S6", requires=(IMAGES,))
async def it_cannot_change_the_kernels_settings(bench: Bench) -> None:
    done = await (await bench.sandbox()).run("sh", "-c", "echo 1 > /proc/sys/kernel/panic")
    expect(done.code != 0, "/proc/sys/kernel/panic can be written to")


@ISO.law("S7", requires=(IMAGES,))
async def it_does_not_see_processes_of_the_host(bench: Bench) -> None:
    done = await (await bench.sandbox()).run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    expect(b"longshore_core" not in done.stdout, "it sees the worker among its processes")
    count = len((await (await bench.sandbox("d")).run("sh", "-c", "ls /proc")).stdout.split())
    expect(count < 400, "it sees the host's processes")


@ISO.law("S8", requires=(IMAGES,))
async def it_cannot_mount(bench: Bench) -> None:
    done = await (await bench.sandbox()).run("sh", "-c", "mount -t tmpfs none /mnt")
    expect(done.code != 0, "it can mount a file system")


@ISO.law("S9", requires=(IMAGES,))
async def it_cannot_read_the_environment_of_another_container(bench: Bench) -> None:
    secret = f"hush-{bench.mark}"
    await bench.sandbox("one", env={"CODE": secret})
    done = await (await bench.sandbox("two")).run("sh", "-c", "cat /proc/[0-9]*/environ")
    expect(secret.encode() not in done.stdout, "it reads another container's environment")


@ISO.law("S10", requires=(IMAGES,))
async def it_cannot_open_raw_sockets_of_the_host(bench: Bench) -> None:
    done = await (await bench.sandbox()).run("sh", "-c", "readlink /proc/self/ns/net")
    equal(done.stdout.decode().strip() == os.readlink("/proc/self/ns/net"), False, "one network")


async def _said(bench: Bench, script: str) -> str:
    """What PID 1 has left in `said.part`, in its directory for sockets."""
    full = f'{script}; mv "$LONGSHORE_SOCKETS/said.part" "$LONGSHORE_SOCKETS/said"; exec sleep 1000'
    handle = await bench.driver.create(bench.spec("said", full))
    attachment = await bench.driver.start(handle)
    await bench.told(attachment, "said")
    if not isinstance(attachment.reach, UnixReach):
        return ""
    text = await anyio.Path(attachment.reach.path, "said").read_text()
    await bench.driver.remove(handle)
    return text


async def _status(bench: Bench) -> dict[str, str]:
    done = await (await bench.sandbox()).run("cat", "/proc/self/status")
    pairs = (line.partition(":") for line in done.stdout.decode().splitlines())
    return {name: value.strip() for name, _, value in pairs}


LAWS: Final[tuple[Law[Bench], ...]] = laws_in(globals())
