"""Just enough of ELF to take a program elsewhere: who loads it, and where it looks for libraries.

64-bit, little-endian: what Linux servers are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAGIC: Final = b"\x7fELF\x02\x01"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 5, 14, 15, 29
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_DYNAMIC: Final = struct.Struct("<qQ")


class NotELF(ValueError):
    """The bytes are not an ELF file of the kind that is understood here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


class ELF:
    """An ELF file in memory. Raises NotELF."""

    def __init__(self, data: bytes) -> None:
        if data[: len(MAGIC)] != MAGIC:
            raise NotELF("not a 64-bit little-endian ELF file")
        self.data = bytearray(data)
        try:
            self._segments = list(self._read_segments())
        except struct.error as exc:
            raise NotELF("the ELF file is cut off") from exc

    def _read_segments(self) -> Iterator[_Segment]:
        (table,) = struct.unpack_from("<Q", self.data, 32)
        size, count = struct.unpack_from("<HH", self.data, 54)
        for number in range(count):
            kind, _, offset, address, _, length, _, _ = _SEGMENT.unpack_from(
                self.data, table + number * size
            )
            yield _Segment(kind=kind, offset=offset, address=address, size=length)

    @property
    def interpreter(self) -> str | None:
        """The dynamic loader that it asks for; `None` for one that needs none."""
        for segment in self._segments:
            if segment.kind == _PT_INTERP:
                return self._text(segment.offset)
        return None

    @property
    def soname(self) -> str | None:
        """The name under which others ask for it."""
        entries = dict(self._dynamic())
        if _DT_SONAME not in entries or _DT_STRTAB not in entries:
            return None
        return self._text(self._offset(entries[_DT_STRTAB]) + entries[_DT_SONAME])

    def forget_search_path(self) -> None:
        """Take out RPATH and RUNPATH: it then looks for libraries only where it is told to."""
        for segment in self._segments:
            if segment.kind == _PT_DYNAMIC:
                kept = [
                    entry for entry in self._dynamic() if entry[0] not in (_DT_RPATH, _DT_RUNPATH)
                ]
                raw = b"".join(_DYNAMIC.pack(*entry) for entry in kept)
                # The table ends at its first empty entry.
                padding = b"\0" * (segment.size - len(raw))
                self.data[segment.offset : segment.offset + segment.size] = raw + padding

    def _dynamic(self) -> Iterator[tuple[int, int]]:
        for segment in self._segments:
            if segment.kind == _PT_DYNAMIC:
                raw = self.data[segment.offset : segment.offset + segment.size]
                for tag, value in _DYNAMIC.iter_unpack(raw):
                    if tag == _DT_NULL:
                        return
                    yield tag, value

    def _offset(self, address: int) -> int:
        for segment in self._segments:
            inside = address - segment.address
            if segment.kind == _PT_LOAD and 0 <= inside < segment.size:
                return segment.offset + inside
        raise NotELF(f"no segment holds address {address:#x}")

    def _text(self, offset: int) -> str:
        return self.data[offset : self.data.index(0, offset)].decode()
