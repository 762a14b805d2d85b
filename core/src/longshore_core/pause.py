"""A program that does nothing: what holds a network namespace open while no sandbox is in it.

For drivers whose engine has containers join the network of another one. An engine needs an image
for that other one, and none can be assumed to be there: this one is made here, as an archive that
engines import. It has one file, an ELF program of a few instructions that waits for signals for
ever and uses one page of memory.
"""

from __future__ import annotations

import io
import struct
import tarfile
from types import MappingProxyType
from typing import Final, NamedTuple

from longshore_core._errors import ImageError

PROGRAM: Final = "/pause"
"""Where the program is in the image: the argv of its container."""

_BASE: Final = 0x400000
_ELF_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER: Final = struct.Struct("<IIQQQQQQ")


class _Machine(NamedTuple):
    number: int
    """`e_machine`, of the ELF specification."""
    code: bytes


_MACHINES: Final = MappingProxyType(
    {
        # mov eax, 34 (pause); syscall; jmp back
        "x86_64": _Machine(62, bytes.fromhex("b822000000 0f05 ebf7")),
        # mov x0..x4, 0; mov x8, 73 (ppoll); svc 0; b back
        "aarch64": _Machine(
            183,
            bytes.fromhex(
                "000080d2 010080d2 020080d2 030080d2 040080d2 280980d2 010000d4 f9ffff17"
            ),
        ),
    }
)


def program(machine: str) -> bytes:
    """The program, for a machine as `uname -m` names it. Raises ImageError for one unknown."""
    try:
        number, code = _MACHINES[machine]
    except KeyError:
        known = ", ".join(_MACHINES)
        message = f"no program to hold a network namespace for {machine!r}, only for {known}"
        raise ImageError(f"{message}; set the pool of network namespaces to 0") from None
    before = _ELF_HEADER.size + _PROGRAM_HEADER.size
    size = before + len(code)
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = _ELF_HEADER.pack(
        *(identity, 2, number, 1, _BASE + before, _ELF_HEADER.size, 0, 0),
        *(_ELF_HEADER.size, _PROGRAM_HEADER.size, 1, 0, 0, 0),
    )
    loaded = _PROGRAM_HEADER.pack(1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + loaded + code


def image(machine: str) -> bytes:
    """A root file system with the program alone, as an uncompressed tar archive: the same bytes
    each time. Raises ImageError as `program` does."""
    content = program(machine)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(PROGRAM.removeprefix("/"))
        entry.size, entry.mode = len(content), 0o555
        tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()
