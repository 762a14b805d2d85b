"""What a valid head is: the one grammar of the proxy, for requests and for responses.

A proxy that reads a message otherwise than the server behind it can be made to smuggle one. So
whatever can be read in two ways is refused rather than repaired: bare line feeds, folded lines,
white space before a colon, control characters. Nothing passes here that h11 would refuse.
"""

from __future__ import annotations

import re
from typing import Final

from longshore_core._errors import RequestError
from longshore_core._heads import RequestHead, ResponseHead
from longshore_core._proxy.grammar import (
    NAME,
    REQUEST,
    REQUEST_LINE,
    RESPONSE,
    bad_request,
    bad_response,
)

END: Final = b"\r\n\r\n"

_LINE: Final = re.compile(REQUEST_LINE)
_OTHER_VERSION: Final = re.compile(NAME + rb"++ [\x21-\x7e]++ HTTP/[0-9](?:\.[0-9])?\r\n")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_NAME_START: Final = re.compile(NAME)


def parse_request(raw: bytes) -> RequestHead:
    """The head of a request: `raw` is all up to the empty line, both included.

    Raises RequestError: 400 for what is malformed, 405 for CONNECT, 505 for another version.
    """
    if REQUEST.fullmatch(raw) is None:
        raise _diagnose(raw)
    head = RequestHead(raw)
    hosts = len(head.get_all(b"host"))
    if hosts > 1 or (hosts == 0 and head.version == b"1.1"):
        raise bad_request("A request needs exactly one Host header")
    if head.method == b"CONNECT":
        raise RequestError(405, "METHOD_NOT_ALLOWED", "CONNECT is not served here")
    return head


def parse_response(raw: bytes) -> ResponseHead:
    """The head of a response, 1xx included. Raises GuestError for what is malformed."""
    if RESPONSE.fullmatch(raw) is None:
        raise bad_response("the head of the sandbox's response is malformed")
    return ResponseHead(raw)


def hopeless(part: bytes) -> bool:
    """Whether no bytes to come can make a valid request of `part`, which has no empty line yet."""
    return _NAME_START.match(part) is None or _BARE_LF.search(part) is not None


def _diagnose(raw: bytes) -> RequestError:
    line, _, rest = raw.partition(b"\r\n")
    if _BARE_LF.search(raw) is not None:
        return bad_request("Lines must end with CR LF")
    if _LINE.fullmatch(line + b"\r\n") is None:
        if _OTHER_VERSION.fullmatch(line + b"\r\n") is not None:
            return RequestError(505, "HTTP_VERSION_NOT_SUPPORTED", "Only HTTP/1.1 is served here")
        return bad_request("Malformed request line")
    if rest.startswith((b" ", b"\t")) or b"\r\n " in rest or b"\r\n\t" in rest:
        return bad_request("Folded header lines are not accepted")
    return bad_request("Malformed header")
