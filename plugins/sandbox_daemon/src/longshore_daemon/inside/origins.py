"""Pages of other sites: the proxy lets them in, and asks for no token of theirs."""

from __future__ import annotations

from longshore_daemon.inside.exchange import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_ADMITTED = "longshore-admitted-origin"
"""By the proxy's CORS. Only pages that are admitted can send such a header themselves."""


def refuse_other_origins(headers: Mapping[str, str]) -> None:
    """Raise ApiError 403 for a browser that acts for a page which is neither of the address that
    was asked nor admitted by the proxy."""
    origin = headers.get("origin")
    if origin is None or origin == headers.get(_ADMITTED):
        return
    if origin.partition("://")[2].lower() != headers.get("host", "").lower():
        message = f"pages of {origin} may not act in the sandbox"
        raise ApiError(403, "ORIGIN_NOT_ALLOWED", message)
