"""The environment of user processes, and where their commands are found.

PID 1 itself starts with variables blanked that would let the image's code into it. What they were,
the launcher conveys as `LONGSHORE_RESTORE_<name>`; user processes get them back under their names.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

RESTORE = "LONGSHORE_RESTORE_"
BLANKED = "LONGSHORE_BLANKED"
SOCKETS = "LONGSHORE_SOCKETS"
OUTPUT = "LONGSHORE_OUTPUT"
OUTPUT_LIMIT = "LONGSHORE_OUTPUT_LIMIT"
OUTPUT_TOTAL = "LONGSHORE_OUTPUT_TOTAL"
FILES_ROOT = "LONGSHORE_FILES_ROOT"
GRPC = "LONGSHORE_GRPC"
_OURS = (BLANKED, SOCKETS, OUTPUT, OUTPUT_LIMIT, OUTPUT_TOTAL, FILES_ROOT, GRPC)
_OWN = "/.longshore"
"""Where the runtime is mounted: a directory of the container's own disk."""
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm", "/run")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def for_users(environ: Mapping[str, str]) -> dict[str, str]:
    """What user processes inherit, from what PID 1 was started with."""
    blanked = environ.get(BLANKED, "").split()
    env = {
        name: value
        for name, value in environ.items()
        if name not in blanked and name not in _OURS and not name.startswith(RESTORE)
    }
    for name, value in environ.items():
        if name.startswith(RESTORE):
            env[name.removeprefix(RESTORE)] = value
    env.setdefault("PATH", DEFAULT_PATH)
    env.setdefault("HOME", home(os.getuid()))
    return env


def for_output(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Directories where output may be kept, the best first: it should end with the container."""
    sockets = os.path.abspath(environ.get(SOCKETS, ""))
    if environ.get(OUTPUT) == "beside-sockets":
        return (sockets,)
    return (_OWN, environ.get("TMPDIR", ""), *_TEMPORARY, sockets)


def number(environ: Mapping[str, str], name: str, default: int) -> int:
    """That of a variable, such as how many bytes are kept."""
    text = environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else default


def home(uid: int, passwd: str = "/etc/passwd") -> str:
    """The home directory of a user. The C library, asked for it, would load the image's code."""
    for fields in _entries(passwd):
        if fields[2] == str(uid):
            return fields[5] or "/"
    return "/"


def is_me(user: str, passwd: str = "/etc/passwd") -> bool:
    """Whether `user`, a name or a number, is whom this process runs as."""
    uid = str(os.getuid())
    return user == uid or any(f[0] == user and f[2] == uid for f in _entries(passwd))


def _entries(passwd: str) -> list[list[str]]:
    try:
        with open(passwd, encoding="utf-8", errors="replace") as file:
            lines = file.read(1 << 20).splitlines()
    except OSError:
        return []
    return [fields for fields in (line.split(":") for line in lines) if len(fields) >= 7]


def find_command(command: str, path: str) -> str | None:
    """The file that `command` names, as a shell would find it; `None` when there is none.

    A name with a slash stands for itself. Relative to the working directory, as is the search.
    """
    if "/" in command:
        return command
    denied = None
    for directory in path.split(":"):
        candidate = f"{directory or '.'}/{command}"
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            denied = denied or candidate
    return denied
