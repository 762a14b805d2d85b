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
_ALLOWED_CAPABILITIES: Final = 0x00000000A00405FB
"""Those that engines leave by default, but for NET_RAW and MKNOD: what is beyond is privilege."""
_NO_TOOL: Final = 77
_ENGINES: Final = (
    *("docker.sock", "containerd/containerd.sock"),
    *("podman/podman.sock", "crio/crio.sock"),
)
_RAW_SOCKET: Final = "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"
_SURFACE: Final = """
grep -E '^(Seccomp|CapBnd):' /proc/self/status
echo "devices: $(ls /dev | wc -l)"
for file in /proc/kcore /proc/keys /proc/sysrq-trigger /sys/kernel/security /sys/firmware/efi; do
    [ -n "$(ls -A $file 2>/dev/null | head -n 1)" ] && head -c 1 $file >/dev/null 2>&1 && echo open
done
:
"""


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
    paths = " ".join(f"{run}/{each}" for run in ("/run", "/var/run") for each in _ENGINES)
    done = await (await bench.sandbox()).run("sh", "-c", f"ls {paths} 2>/dev/null")
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
    # The value that it has: where this works, it does no harm.
    script = "cd /proc/sys/kernel && panic=$(cat panic) && echo $panic > panic"
    done = await (await bench.sandbox()).run("sh", "-c", script)
    expect(done.code != 0, "/proc/sys/kernel/panic can be written to")


@ISO.law("S7", requires=(IMAGES,))
async def it_does_not_see_processes_of_the_host(bench: Bench) -> None:
    own = await anyio.Path("/proc/self/cmdline").read_bytes()
    done = await (await bench.sandbox()).run("cat", f"/proc/{os.getpid()}/cmdline")
    expect(done.stdout != own, "it sees a process of the host")


@ISO.law("S7.2", requires=(IMAGES,))
async def it_cannot_signal_processes_of_the_host(bench: Bench) -> None:
    done = await (await bench.sandbox()).run("sh", "-c", f"kill -0 {os.getpid()}")
    expect(done.code != 0, "it can signal a process of the host")


@ISO.law("S8", requires=(IMAGES,))
async def it_cannot_mount(bench: Bench) -> None:
    script = (
        f"command -v mount >/dev/null && place=$(mktemp -d) || exit {_NO_TOOL};"
        "mount -t tmpfs none $place && umount $place"
    )
    done = await (await bench.sandbox()).run("sh", "-c", script)
    bench.need(done.code != _NO_TOOL, "an image with mount, and a directory to mount on")
    expect(done.code != 0, "it can mount a file system")


@ISO.law("S9", requires=(IMAGES,))
async def it_cannot_read_the_environment_of_another_container(bench: Bench) -> None:
    secret = f"hush-{bench.mark}"
    await bench.sandbox("one", env={"CODE": secret})
    done = await (await bench.sandbox("two")).run("sh", "-c", "cat /proc/[0-9]*/environ")
    expect(secret.encode() not in done.stdout, "it reads another container's environment")


@ISO.law("S10", requires=(IMAGES,))
async def it_cannot_open_raw_sockets(bench: Bench) -> None:
    sandbox = await bench.sandbox()
    there = await sandbox.run("sh", "-c", f"command -v python3 >/dev/null || exit {_NO_TOOL}")
    bench.need(there.code != _NO_TOOL, "an image with python3")
    done = await sandbox.run("python3", "-c", _RAW_SOCKET)
    expect(b"PermissionError" in done.stderr, f"a raw socket is not refused: {done.stderr!r}")


@ISO.law("S10.2", requires=(IMAGES,))
async def its_network_is_not_the_hosts(bench: Bench) -> None:
    done = await (await bench.sandbox()).run("sh", "-c", "readlink /proc/self/ns/net")
    equal(done.stdout.decode().strip() == os.readlink("/proc/self/ns/net"), False, "one network")


@ISO.law("S10.3", requires=(IMAGES,))
async def what_it_sees_of_the_kernel_is_known_and_filtered(bench: Bench) -> None:
    done = await (await bench.sandbox()).run("sh", "-c", _SURFACE)
    lines = done.stdout.decode().splitlines()
    seen = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    bench.record("capabilities_within_bounds", int(seen["CapBnd"], 16).bit_count())
    bench.record("devices", int(seen["devices"]))
    bench.record("files_of_the_kernel_open", lines.count("open"))
    bench.record("seccomp_mode", int(seen["Seccomp"]))
    equal(seen["Seccomp"], "2", "the mode of seccomp (2: a filter of system calls)")


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
