"""Heads of HTTP/1.1 messages, and what a middleware does with them.

A head is a view over the bytes as they came, plus a list of edits. Nothing is taken apart until it
is asked for, and what nobody edits leaves as it came, byte for byte: order, case and white space.

Two rules hold everywhere: the bytes under a view are a valid head (`_proxy.heads` checks what comes
from the network, the builders here check what comes from code), and a head never changes: an edit
answers with another head over the same bytes.
"""

# ruff: noqa: SLF001 -- an edit fills in the copy that it has just made

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeAlias, TypeVar

Field: TypeAlias = tuple[bytes, bytes]
HeadT = TypeVar("HeadT", bound="Headers")

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_TARGET: Final = re.compile(rb"[\x21-\x7e]+")
_NAMES: Final = re.compile(rb"\r\n([^:\r]+):")
_BODILESS: Final = frozenset({204, 304})


def _checked(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    for name, value in fields:
        if _TOKEN.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not the name of a header")
        if _VALUE.fullmatch(value) is None:
            # The value may be a secret: only the name is told.
            raise ValueError(f"the value for header {name!r} has a character that cannot be sent")
    return tuple((name, value.strip(b" \t")) for name, value in fields)


class Headers:
    """The fields of a head: a view over its bytes, plus the edits made to it.

    Names are found whatever their case. `raw` is a whole valid head, with its start line and the
    empty line at the end.
    """

    __slots__ = ("_added", "_lowered", "_names", "_raw", "_removed")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._lowered = b""
        self._names: frozenset[bytes] | None = None
        self._removed: frozenset[bytes] = frozenset()
        self._added: tuple[Field, ...] = ()

    def get(self, name: bytes) -> bytes | None:
        """The first value under `name`, without white space around it; `None`: there is none."""
        values = self.get_all(name)
        return values[0] if values else None

    def get_all(self, name: bytes) -> tuple[bytes, ...]:
        """All values under `name`, in order."""
        name, raw = name.lower(), self._raw
        values = tuple[bytes, ...]()
        if name not in self._removed and name in self._present():
            skip = len(name) + 3
            values = tuple(raw[at + skip : end].strip(b" \t") for at, end in self._spans(name))
        if self._added:
            values += tuple(value for key, value in self._added if key.lower() == name)
        return values

    def items(self) -> Iterator[Field]:
        """All fields in order: names in the case in which they came, values stripped."""
        first = self._raw.index(b"\r\n") + 2
        for line in self._raw[first:-2].split(b"\r\n")[:-1]:
            name, _, value = line.partition(b":")
            if name.lower() not in self._removed:
                yield name, value.strip(b" \t")
        yield from self._added

    def with_(self: HeadT, *fields: Field) -> HeadT:
        """This head with these fields at its end, in place of all that bear their names.

        Raises ValueError for what cannot be sent: a line break in a value, say.
        """
        fields = _checked(fields)
        edited = self.without(*(name for name, _ in fields))
        edited._added += fields
        return edited

    def without(self: HeadT, *names: bytes) -> HeadT:
        """This head less all fields of those names."""
        gone = frozenset(name.lower() for name in names)
        edited = self._copy()
        edited._removed |= gone
        if edited._added:
            edited._added = tuple(item for item in edited._added if item[0].lower() not in gone)
        return edited

    def serialise(self) -> bytes:
        """The bytes to send: start line, fields, the empty line."""
        cuts = list[tuple[int, int]]()
        if self._removed:
            for name in self._removed & self._present():
                cuts += self._spans(name)
        if not cuts and not self._added:
            return self._raw
        cuts.sort()
        parts, kept = list[bytes](), 0
        for start, end in cuts:
            parts.append(self._raw[kept:start])
            kept = end
        parts.append(self._raw[kept:-4])
        for name, value in self._added:
            parts += (b"\r\n", name, b": ", value)
        parts.append(b"\r\n\r\n")
        return b"".join(parts)

    def _copy(self: HeadT) -> HeadT:
        # Past the constructors, which build or check: these bytes have been through one.
        other = type(self).__new__(type(self))
        other._raw, other._lowered, other._names = self._raw, self._lowered, self._names
        other._removed, other._added = self._removed, self._added
        return other

    def _present(self) -> frozenset[bytes]:
        """The names that the raw fields have: most questions are about one that is not there."""
        names = self._names
        if names is None:
            self._lowered = self._raw.lower()
            names = self._names = frozenset(_NAMES.findall(self._lowered))
        return names

    def _spans(self, name: bytes) -> list[tuple[int, int]]:
        """Where the raw fields of a name are: from the line break before each to that after."""
        lowered, needle, spans = self._lowered, b"\r\n" + name + b":", list[tuple[int, int]]()
        start = lowered.find(needle)
        while start >= 0:
            end = lowered.index(b"\r\n", start + 2)
            spans.append((start, end))
            start = lowered.find(needle, end)
        return spans

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.serialise() == other.serialise()

    def __hash__(self) -> int:
        return hash(self.serialise())


class RequestHead(Headers):
    """The head of a request. `RequestHead.of` builds one; the shell makes them from bytes."""

    __slots__ = ()

    @classmethod
    def of(cls, method: bytes, target: bytes, *fields: Field) -> RequestHead:
        """Build the head of an HTTP/1.1 request. Raises ValueError for what cannot be sent."""
        if _TOKEN.fullmatch(method) is None:
            raise ValueError(f"{method!r} is not a method")
        if _TARGET.fullmatch(target) is None:
            raise ValueError("a target has a character that cannot be sent")
        return cls(b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, _lines(_checked(fields))))

    @property
    def method(self) -> bytes:
        return self._raw[: self._raw.index(b" ")]

    @property
    def target(self) -> bytes:
        start = self._raw.index(b" ") + 1
        return self._raw[start : self._raw.index(b" ", start)]

    @property
    def path(self) -> bytes:
        """The target up to its query."""
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        """The target after its first question mark; empty when there is none."""
        return self.target.partition(b"?")[2]

    @property
    def version(self) -> bytes:
        """`b"1.1"` or `b"1.0"`."""
        end = self._raw.index(b"\r\n")
        return self._raw[end - 3 : end]

    def with_target(self, target: bytes) -> RequestHead:
        """This head asking for `target`. Raises ValueError for one that cannot be sent."""
        if _TARGET.fullmatch(target) is None:
            raise ValueError("a target has a character that cannot be sent")
        edited = self._copy()
        start = self._raw.index(b" ") + 1
        edited._raw = self._raw[:start] + target + self._raw[self._raw.index(b" ", start) :]
        edited._names = None
        return edited

    def __repr__(self) -> str:
        # Neither query nor fields: both carry secrets.
        return f"<RequestHead {self.method.decode()} {self.path.decode()}>"


class ResponseHead(Headers):
    """The head of a response.

    `body` is `None` for what comes from a sandbox, whose body streams past; an answer that is given
    here, built with `ResponseHead.of`, brings its own.
    """

    __slots__ = ("body",)

    def __init__(self, raw: bytes, *, body: bytes | None = None) -> None:
        super().__init__(raw)
        self.body = body

    @classmethod
    def of(cls, status: int, *fields: Field, body: bytes = b"") -> ResponseHead:
        """Build a whole answer: its content-length is set from `body`.

        Raises ValueError for what cannot be sent: a status outside 200 to 599, a body with 204.
        """
        if not 200 <= status <= 599 or (body and status in _BODILESS):
            raise ValueError(f"an answer cannot have status {status} and {len(body)} bytes of body")
        head = cls(
            b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, _phrase(status), _lines(_checked(fields))),
            body=body,
        )
        if status in _BODILESS:
            return head.without(b"Content-Length", b"Transfer-Encoding")
        length = (b"Content-Length", b"%d" % len(body))
        return head.with_(length).without(b"Transfer-Encoding")

    @property
    def status(self) -> int:
        return int(self._raw[9:12])

    @property
    def version(self) -> bytes:
        """`b"1.1"` or `b"1.0"`."""
        return self._raw[5:8]

    def _copy(self) -> ResponseHead:
        other = super()._copy()
        other.body = self.body
        return other

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status}>"


def _lines(fields: tuple[Field, ...]) -> bytes:
    return b"".join(b"%b: %b\r\n" % field for field in fields)


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a request ended, for `Layer.done`."""

    request_id: str
    sandbox_id: str | None
    port: int | None
    method: str
    path: str
    """Without its query, which may carry secrets."""
    status: int
    """499 when the client went away before there was an answer."""
    duration_seconds: float
    error: str | None = None
    """The code of what went wrong in the proxy, or on the way to the sandbox."""


Flow: TypeAlias = Generator[RequestHead, ResponseHead, ResponseHead]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What a middleware opens, in the proxy's process. Each part may be left out."""

    flow: Callable[[RequestHead], Flow] | None = None
    """A generator over heads: `response = yield request` asks further in, once; return without
    yielding to answer here. Pure and quick: bodies, 1xx and upgraded bytes pass around it."""
    admit: Callable[[RequestHead], Awaitable[ResponseHead | None]] | None = None
    """For what needs I/O: asked before any flow, with a deadline of 10 seconds. `None` lets the
    request pass; a response is the answer, and still passes through the flows further out."""
    done: Callable[[Outcome], None] | None = None
    """Told exactly once how a request ended, after its last byte. Quick, and never raises."""
    name: str = ""
    """For messages about it; the kernel fills it in when it is empty."""
