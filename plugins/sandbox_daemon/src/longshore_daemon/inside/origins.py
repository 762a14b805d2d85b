"""Pages of other sites: the proxy lets them in, and asks for no token of theirs."""

from __future__ import annotations

from longshore_daemon.inside.exchange import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_ADMITTED = "longshore-admitted-origin"
"""By the proxy's CORS. Only pages that are admitted can send such a header themselves."""


def refuse_pages(headers: Mapping[str, str]) -> None:
    """Raise ApiError 403 for a browser that acts for a page, unless the proxy has admitted it.

    A page of the same address is no exception: it may come from another port of a sandbox, and say
    by a header which sandbox it means.
    """
    origin = headers.get("origin")
    if origin is not None and origin != headers.get(_ADMITTED):
        message = f"pages of {origin} may not act in the sandbox"
        raise ApiError(403, "ORIGIN_NOT_ALLOWED", message)


def refuse_other_pages(headers: Mapping[str, str]) -> None:
    """The same for WebSockets, to which a page can add no header: the address says which sandbox
    is meant, and the daemon has no pages there."""
    if headers.get("origin", "").partition("://")[2].lower() != headers.get("host", "").lower():
        refuse_pages(headers)
