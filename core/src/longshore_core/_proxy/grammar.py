"""The grammar of heads and trailers, and whose fault it is when something is not of it.

Possessive repeats throughout: what does not match is refused in linear time.
"""

from __future__ import annotations

import re
from typing import Final

from longshore_core._errors import GuestError, RequestError

NAME: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
REQUEST_LINE: Final = NAME + rb"++ [\x21-\x7e]++ HTTP/1\.[01]\r\n"
_FIELD: Final = NAME + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n"
_STATUS_LINE: Final = rb"HTTP/1\.[01] [1-9][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*+)?\r\n"

FIELD: Final = re.compile(_FIELD)
REQUEST: Final = re.compile(REQUEST_LINE + rb"(?:" + _FIELD + rb")*+\r\n")
RESPONSE: Final = re.compile(_STATUS_LINE + rb"(?:" + _FIELD + rb")*+\r\n")


def bad_request(message: str) -> RequestError:
    """What a client is told whose message cannot be read."""
    return RequestError(400, "BAD_REQUEST", message)


def bad_response(message: str) -> GuestError:
    """A sandbox that does not speak HTTP/1.1."""
    return GuestError(message)
