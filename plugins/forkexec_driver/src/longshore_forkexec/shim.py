"""The parent of one container's PID 1, and all that stays of the driver when the worker dies.

A bare interpreter runs this file as a script, `python -I -S shim.py`, and one runs beside every
container. So it uses the standard library alone, and of that only what loads quickly: `json`,
`signal`, `typing` and `contextlib` would each cost more than all that is here.

It is given an `Order` on its stdin, answers on its stdout (`ready`, or an error number and a
sentence), and from then on speaks through files in the container's directory. Its promises:

1. It claims `life.json` before it does anything: a container is started once, whoever tries.
2. PID 1 dies with it (PR_SET_PDEATHSIG): no container runs on with nobody to see its end.
3. Whatever the container starts stays below it (PR_SET_CHILD_SUBREAPER), however often that forks
   or leaves its session. So once the shim has no child left, nothing of the container is left.
4. `exit.json` is on the disk before it ends anything; the file `cleared` is its last act.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TypedDict

    class Order(TypedDict):
        """What the driver wants run. Not on disk, and not in argv."""

        directory: str
        boot: str
        argv: list[str]
        env: dict[str, str]
        cwd: str | None
        cgroups: list[str]
        rlimits: list[tuple[str, int]]


VERSION = 1
LIFE, EXIT, CLEARED = "life.json", "exit.json", "cleared"
WORK, STDOUT, STDERR, LOG = "work", "stdout", "stderr", "shim.log"
READY = "ready"

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SIGKILL, _SIGPIPE, _SIGXFSZ = 9, 13, 25
_EINVAL = 22
_LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    # A library of the worker may have left descriptors open for us.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.umask(0o077)
    order: Order = marshal.load(sys.stdin.buffer)
    try:
        pid = start(order)
    except OSError as exc:
        answer(f"{exc.errno} {exc.strerror}")
        os._exit(1)
    answer(READY)
    detach()
    try:
        # Now, since the worker need not wait for it: should the power fail before, PID 1 fails too.
        sync(LIFE)
        sync(".")
        status = wait_for(pid)
        oom = status != 0 and oom_kills(order["cgroups"]) > 0
        record(EXIT, ending(os.waitstatus_to_exitcode(status), oom), durable=True)
    finally:
        clear(order["cgroups"])
    write(CLEARED, "")


# Starting.


def start(order: Order) -> int:
    """Claim the container and run its PID 1. Raises OSError; then nothing has come of it."""
    os.chdir(order["directory"])
    claim(order["boot"])
    try:
        prctl(_PR_SET_CHILD_SUBREAPER, 1)
        pid = fork(order)
        record(LIFE, life(order["boot"], pid))
    except BaseException:
        clear(order["cgroups"])
        os.unlink(LIFE)
        raise
    return pid


def claim(boot: str) -> None:
    """Make `life.json`, whole from the first moment; FileExistsError when there is one."""
    draft = f"{LIFE}.{os.getpid()}"
    write(draft, life(boot, None))
    try:
        os.link(draft, LIFE)
    finally:
        os.unlink(draft)


def fork(order: Order) -> int:
    """Run PID 1 and answer its pid once `exec` has succeeded."""
    hear, tell = os.pipe()
    shim = os.getpid()
    pid = os.fork()
    if pid == 0:
        become(order, tell, shim)
    os.close(tell)
    complaint = os.read(hear, 4096).decode(errors="replace")
    os.close(hear)
    if complaint:
        number, _, attempt = complaint.partition(" ")
        raise OSError(int(number), f"cannot {attempt}: {os.strerror(int(number))}")
    return pid


def become(order: Order, tell: int, shim: int) -> NoReturn:
    """Turn this process into PID 1, or tell why not. `tell` closes itself when `exec` succeeds."""
    attempt, number = "make PID 1 ready", _EINVAL
    try:
        prctl(_PR_SET_PDEATHSIG, _SIGKILL)
        if os.getppid() != shim:
            os._exit(1)
        os.setsid()
        for path in order["cgroups"]:
            attempt = f"enter the cgroup {path}"
            write(f"{path}/cgroup.procs", "0", flags=os.O_WRONLY)
        attempt = "open its output"
        redirect()
        for name, limit in order["rlimits"]:
            attempt = f"set the resource limit {name} to {limit}"
            resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (limit, limit))
        # Python ignores these two, and what is ignored stays so across exec.
        _LIBC.signal(_SIGPIPE, None)
        _LIBC.signal(_SIGXFSZ, None)
        os.umask(0o022)
        attempt = f"enter {order['cwd'] or WORK!r}"
        os.chdir(WORK)
        os.chdir(order["cwd"] or ".")
        attempt = f"run {order['argv'][0]!r}"
        os.execvpe(order["argv"][0], order["argv"], order["env"])
    except OSError as exc:
        number = exc.errno or number
    finally:
        os.write(tell, f"{number} {attempt}".encode())
        os._exit(127)


def redirect() -> None:
    """Nothing to read, and files to append to: no pipe that could break with the worker."""
    append = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(STDOUT, append, 0o600), 1)
    os.dup2(os.open(STDERR, append, 0o600), 2)


def answer(text: str) -> None:
    try:
        os.write(1, text.encode())
    except BrokenPipeError:
        return  # the worker has died meanwhile; its successor finds our files


def detach() -> None:
    """Let go of the worker's descriptors; stderr is a file already."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


# Ending.


def wait_for(pid: int) -> int:
    """PID 1's status. Orphans of the container come to us, and are reaped on the way."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return status


def oom_kills(cgroups: list[str]) -> int:
    """How often the kernel killed in these cgroups for want of memory."""
    count = 0
    for path in cgroups:
        for name in ("memory.events", "memory.oom_control"):
            try:
                with open(f"{path}/{name}", encoding="ascii") as file:
                    fields = [line.split() for line in file]
            except OSError:
                continue  # another version, or another controller
            count += sum(int(field[1]) for field in fields if field[0] == "oom_kill")
    return count


def clear(cgroups: list[str]) -> None:
    """End whatever the container has left behind, and return when nothing is left."""
    for path in cgroups:
        try:
            write(f"{path}/cgroup.kill", "1", flags=os.O_WRONLY)
        except OSError:
            continue  # version 1 has no such file; what is in there is also below us
    try:
        while True:
            os.waitpid(-1, os.WNOHANG)
            for pid in children():
                kill(pid)
            # The children of what ends here become ours in the same moment.
            os.wait()
    except ChildProcessError:
        return


def kill(pid: int) -> None:
    try:
        os.kill(pid, _SIGKILL)
    except PermissionError:
        return  # it has become another user's, and is waited for


def children() -> list[int]:
    own = os.getpid()
    found = list[int]()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parent = int(stat_fields(int(name))[1])
            except OSError:
                continue  # it has ended
            if parent == own:
                found.append(int(name))
    return found


# Records.


def life(boot: str, pid: int | None) -> str:
    main = "null" if pid is None else process(pid)
    shim = process(os.getpid())
    return f'{{"version": {VERSION}, "boot": "{boot}", "shim": {shim}, "main": {main}}}\n'


def process(pid: int) -> str:
    return f'{{"pid": {pid}, "start": {stat_fields(pid)[19]}}}'


def ending(code: int, oom: bool) -> str:
    how = f'"signal": {-code}' if code < 0 else f'"code": {code}'
    return f'{{"version": {VERSION}, {how}, "oom": {str(oom).lower()}}}\n'


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the third on: a name may contain spaces and brackets."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def record(name: str, text: str, *, durable: bool = False) -> None:
    """Put a file in place whole, or not at all."""
    draft = f"{name}.new"
    write(draft, text)
    if durable:
        sync(draft)
    os.replace(draft, name)
    if durable:
        sync(".")


def write(path: str, text: str, flags: int = os.O_WRONLY | os.O_CREAT | os.O_TRUNC) -> None:
    descriptor = os.open(path, flags, 0o600)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def sync(path: str) -> None:
    """Bring a file, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
    os._exit(0)  # at once: tearing the interpreter down takes longer than all of the above
