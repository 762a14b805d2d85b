"""JSON through the C accelerator alone: `json` itself would pull in `re`, and with it `enum`.

The accelerator asks its front for two things: options, as attributes of an object, and the class
of the error to raise, by looking up `json.decoder`. Both are provided here.
"""

from __future__ import annotations

import sys
from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner
from codecs import getincrementaldecoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


class NotJSON(ValueError):
    """A text is not JSON. The message says why."""


class _Malformed(ValueError):
    def __init__(self, message: str, _text: str, position: int) -> None:
        super().__init__(f"{message} at character {position}")


class _Decoder:
    """Stands in for `json` and `json.decoder`, of which only the error is ever wanted."""

    JSONDecodeError = _Malformed


def stand_in_for_json() -> None:
    """To be called once, where `json` itself will never be imported."""
    for name in ("json", "json.decoder"):
        sys.modules[name] = _Decoder  # type: ignore[assignment]  # see above


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


class _Options:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_constant)


def _unserializable(value: object) -> None:
    raise TypeError(f"{type(value).__name__} is not JSON")


_scan = make_scanner(_Options)  # type: ignore[arg-type]  # typed as taking its own kind
_encode = make_encoder(
    None, _unserializable, encode_basestring_ascii, None, ":", ",", False, False, False
)
_spell_out = make_encoder(
    None, _unserializable, encode_basestring, None, ":", ",", False, False, False
)


def loads(data: bytes) -> JSON:
    """Read one JSON text. Raises NotJSON, whatever is wrong with it."""
    value: JSON
    try:
        text = data.decode("utf-8").strip(" \t\r\n")
        value, end = _scan(text, 0)
        # An escape can smuggle in half a character, which no file name and no argument can hold.
        if "\\ud" in text or "\\uD" in text:
            "".join(_spell_out(value, 0)).encode("utf-8")
    except StopIteration as exc:
        raise NotJSON(f"a value is missing at character {exc.value}") from exc
    except ValueError as exc:
        raise NotJSON(str(exc)) from exc
    except RecursionError as exc:
        raise NotJSON("too deeply nested") from exc
    if end != len(text):
        raise NotJSON(f"more than one value, from character {end} on")
    return value


def dumps(value: JSON) -> bytes:
    return "".join(_encode(value, 0)).encode("ascii")


def quoted(text: bytes) -> bytes:
    """A JSON string, from UTF-8; what is not UTF-8 becomes U+FFFD."""
    return encode_basestring_ascii(text.decode("utf-8", "replace")).encode("ascii")


def escaped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The inside of such a string, from pieces of any size to pieces of their size."""
    decoder = getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        yield encode_basestring_ascii(decoder.decode(piece))[1:-1].encode("ascii")
    yield encode_basestring_ascii(decoder.decode(b"", True))[1:-1].encode("ascii")
