"""Header compression of HTTP/2 (RFC 7541): all of it when reading, next to nothing when writing.

What is written names entries of the static table and spells out the rest, so that there is no
state to keep for it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Field = tuple[bytes, bytes]

TABLE_SIZE = 4096
_ENTRY_OVERHEAD = 32
_STRING_LIMIT = 65536
_INDEXED, _INDEXING, _RESIZING = 0x80, 0x40, 0x20
_HUFFMAN = 0x80
_NAMES = (
    b"accept-charset accept-encoding accept-language accept-ranges accept "
    b"access-control-allow-origin age allow authorization cache-control content-disposition "
    b"content-encoding content-language content-length content-location content-range content-type "
    b"cookie date etag expect expires from host if-match if-modified-since if-none-match if-range "
    b"if-unmodified-since last-modified link location max-forwards proxy-authenticate "
    b"proxy-authorization range referer refresh retry-after server set-cookie "
    b"strict-transport-security transfer-encoding user-agent vary via www-authenticate"
)
STATIC: tuple[Field, ...] = (
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    *((b":status", status) for status in b"200 204 206 304 400 404 500".split()),
    *((name, b"gzip, deflate" if name == b"accept-encoding" else b"") for name in _NAMES.split()),
)
_CODES_BY_LENGTH = (
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b'!"()?'),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\x00$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
    (20, b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2"),
    (21, b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6"),
    (22, b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd"
         b"\xbe\xc4\xc6\xe4\xe8\xe9"),
    (23, b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae"
         b"\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef"),
    (24, b"\x09\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed"),
    (25, b"\xc7\xcf\xea\xeb"),
    (26, b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff"),
    (27, b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe"),
    (28, b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19"
         b"\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9"),
    (30, b"\x0a\x0d\x16"),
)  # fmt: skip
"""The code is canonical: lengths and order are all there is to know of it."""


class Malformed(Exception):
    """These bytes are no header block. What follows on the connection cannot be read either."""


def _codes() -> dict[tuple[int, int], int]:
    """The octet, by the length of its code and the code."""
    codes: dict[tuple[int, int], int] = {}
    code, before = 0, 0
    for length, octets in _CODES_BY_LENGTH:
        code <<= length - before
        for octet in octets:
            codes[length, code] = octet
            code += 1
        before = length
    return codes


class Decoder:
    """Reads the header blocks of one connection, each after those before it."""

    __slots__ = ("_codes", "_size", "_size_limit", "_table")

    def __init__(self) -> None:
        self._codes = _codes()
        self._table: list[Field] = []
        """The latest first."""
        self._size = 0
        self._size_limit = TABLE_SIZE

    def decode(self, block: bytes) -> list[Field]:
        """Raises Malformed."""
        fields: list[Field] = []
        position = 0
        while position < len(block):
            first = block[position]
            if first & _INDEXED:
                index, position = _read_integer(block, position, 7)
                fields.append(self._entry(index))
            elif first & _INDEXING:
                field, position = self._read_literal(block, position, 6)
                self._remember(field)
                fields.append(field)
            elif first & _RESIZING:
                if fields:
                    raise Malformed("a table is resized in the middle of a block")
                size, position = _read_integer(block, position, 5)
                self._resize(size)
            else:
                field, position = self._read_literal(block, position, 4)
                fields.append(field)
        return fields

    def _entry(self, index: int) -> Field:
        if 0 < index <= len(STATIC):
            return STATIC[index - 1]
        if 0 < index <= len(STATIC) + len(self._table):
            return self._table[index - len(STATIC) - 1]
        raise Malformed(f"the table has no entry {index}")

    def _read_literal(self, block: bytes, position: int, bits: int) -> tuple[Field, int]:
        index, position = _read_integer(block, position, bits)
        if index:
            name = self._entry(index)[0]
        else:
            name, position = self._read_string(block, position)
        value, position = self._read_string(block, position)
        return (name, value), position

    def _read_string(self, block: bytes, position: int) -> tuple[bytes, int]:
        coded = position < len(block) and block[position] & _HUFFMAN
        length, position = _read_integer(block, position, 7)
        if length > min(_STRING_LIMIT, len(block) - position):
            raise Malformed("a string is longer than its block")
        data = block[position : position + length]
        return (self._expand(data) if coded else data), position + length

    def _expand(self, data: bytes) -> bytes:
        expanded = bytearray()
        code, length = 0, 0
        for octet in data:
            for shift in range(7, -1, -1):
                code, length = code << 1 | (octet >> shift & 1), length + 1
                found = self._codes.get((length, code))
                if found is not None:
                    expanded.append(found)
                    code, length = 0, 0
        # What is left fills the last octet up: less than one, and nothing but ones.
        if length > 7 or code != (1 << length) - 1:
            raise Malformed("a string ends in the middle of a character")
        return bytes(expanded)

    def _remember(self, field: Field) -> None:
        self._table.insert(0, field)
        self._size += _cost(field)
        self._evict()

    def _resize(self, size: int) -> None:
        if size > TABLE_SIZE:
            raise Malformed(f"a table of {size} bytes was not agreed on")
        self._size_limit = size
        self._evict()

    def _evict(self) -> None:
        while self._size > self._size_limit:
            self._size -= _cost(self._table.pop())


def _cost(field: Field) -> int:
    name, value = field
    return len(name) + len(value) + _ENTRY_OVERHEAD


def _read_integer(block: bytes, position: int, bits: int) -> tuple[int, int]:
    """The number in the last `bits` of an octet, and what follows if they are all ones."""
    if position >= len(block):
        raise Malformed("a block ends too early")
    full = (1 << bits) - 1
    value = block[position] & full
    position += 1
    if value < full:
        return value, position
    for shift in (0, 7, 14, 21):
        if position >= len(block):
            raise Malformed("a block ends too early")
        octet = block[position]
        position += 1
        value += (octet & 127) << shift
        if octet < 128:
            return value, position
    raise Malformed("a number is too large")


def _write_integer(value: int, bits: int, marks: int) -> bytes:
    full = (1 << bits) - 1
    if value < full:
        return bytes([marks | value])
    written = bytearray([marks | full])
    value -= full
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


def encode(fields: Iterable[Field]) -> bytes:
    """A header block that leaves no trace in the reader's table."""
    block = bytearray()
    for name, value in fields:
        if (name, value) in STATIC:
            block += _write_integer(STATIC.index((name, value)) + 1, 7, _INDEXED)
            continue
        block.append(0)
        for string in (name, value):
            block += _write_integer(len(string), 7, 0) + string
    return bytes(block)
