"""The catalogue of error codes: every code that an HTTP caller can meet, from any of our processes.

`docs/errors.md` is generated from here. Codes that the field's daemon has keep its spelling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class ErrorCode:
    status: int
    retryable: bool
    meaning: str
    """For the caller: what happened and what to do next."""


CATALOGUE: Final[Mapping[str, ErrorCode]] = MappingProxyType(
    {
        # requests
        "INVALID_JSON": ErrorCode(400, False, "The body is not JSON. Send a JSON object."),
        "INVALID_REQUEST": ErrorCode(
            422, False, "A field is missing, unknown or of the wrong type; the message names it."
        ),
        "BAD_REQUEST": ErrorCode(
            400, False, "The request is not well-formed HTTP, or its fields contradict each other."
        ),
        "HEADERS_TOO_LARGE": ErrorCode(
            431, False, "The request's head is larger than 64 KiB. Send less in headers."
        ),
        "BODY_TOO_LARGE": ErrorCode(413, False, "The body is larger than this route takes."),
        "UNSUPPORTED_MEDIA_TYPE": ErrorCode(
            415, False, "The route wants another Content-Type; the message names it."
        ),
        "ROUTE_NOT_FOUND": ErrorCode(404, False, "No such path. See the API's documentation."),
        "NOT_FOUND": ErrorCode(404, False, "The process, file or session does not exist."),
        "METHOD_NOT_ALLOWED": ErrorCode(405, False, "The path exists, but not with this method."),
        "TIMEOUT": ErrorCode(
            504, True, "The work was not done within the deadline. It may still be done."
        ),
        "INTERNAL_ERROR": ErrorCode(
            500, False, "A defect of Longshore. Report it with the request id."
        ),
        "SHUTTING_DOWN": ErrorCode(503, True, "The process is about to stop. Try again shortly."),
        # the server
        "NAMESPACE_INVALID": ErrorCode(
            400, False, "The name is not one that a namespace can have."
        ),
        "APPLICATION_NOT_FOUND": ErrorCode(
            404, False, "The namespace has no application of that name."
        ),
        "APPLICATION_INVALID": ErrorCode(
            400, False, "The application's manifest cannot be used; the message says why."
        ),
        "SANDBOX_NOT_FOUND": ErrorCode(
            404, False, "No sandbox has that id. It may have been removed."
        ),
        "SANDBOX_FAILED": ErrorCode(
            500, False, "The sandbox ended before it ran; the message says why."
        ),
        "SANDBOX_TERMINATED": ErrorCode(
            409, False, "The sandbox has ended, or was deleted while the request waited for it."
        ),
        "NAME_TAKEN": ErrorCode(
            409, False, "A live sandbox or process has that name. End it, or choose another."
        ),
        "IDEMPOTENCY_MISMATCH": ErrorCode(
            409, False, "The idempotency key was used before with another body."
        ),
        "CAPACITY_EXHAUSTED": ErrorCode(
            503, True, "No worker has enough of a resource; the message names it."
        ),
        "UNSUPPORTED_CAPABILITY": ErrorCode(
            501, False, "This installation does not offer what was asked for."
        ),
        "STORE_UNAVAILABLE": ErrorCode(503, True, "The database cannot be written to."),
        # the proxy
        "MISSING_SANDBOX_ID": ErrorCode(
            400, False, "Name the sandbox in the header Tensorlake-Sandbox-Id."
        ),
        "INVALID_SANDBOX_PORT": ErrorCode(400, False, "The port is not a number from 1 to 65535."),
        "PORT_NOT_ROUTABLE": ErrorCode(403, False, "That port is not for callers of the proxy."),
        "SANDBOX_NOT_RUNNING": ErrorCode(
            503, True, "The sandbox exists but does not run; the message has its state."
        ),
        "CONNECTION_REFUSED": ErrorCode(
            502, True, "Nothing listens on that port inside the sandbox."
        ),
        "CONNECTION_CLOSED": ErrorCode(
            502, True, "The sandbox closed the connection before it answered."
        ),
        "CONNECTION_TIMEOUT": ErrorCode(
            504, True, "The sandbox did not take the connection in time."
        ),
        "READ_TIMEOUT": ErrorCode(504, True, "The sandbox did not answer in time."),
        "WRITE_TIMEOUT": ErrorCode(
            504, True, "The sandbox did not take the request's body in time."
        ),
        "PROXY_ERROR": ErrorCode(502, True, "The request could not be passed on to the sandbox."),
        "ROUTES_UNKNOWN": ErrorCode(
            503, True, "The proxy has not heard from its worker yet. Try again in a moment."
        ),
        "REQUEST_TIMEOUT": ErrorCode(408, False, "The request did not arrive in time."),
        "HTTP_VERSION_NOT_SUPPORTED": ErrorCode(505, False, "Speak HTTP/1.1."),
        # the daemon
        "UNAUTHENTICATED": ErrorCode(
            401, False, "The sandbox's token is missing or wrong. Come through the proxy."
        ),
        "NOT_RELEASED": ErrorCode(503, True, "The sandbox is still being started."),
        "SPAWN_FAILED": ErrorCode(
            400, False, "The command cannot be started; the message has the system's reason."
        ),
        "NOT_RUNNING": ErrorCode(400, False, "The process has ended already."),
        "INVALID_SIGNAL": ErrorCode(400, False, "No signal has that number."),
        "STDIN_NOT_WRITABLE": ErrorCode(
            400, False, "The process was started without stdin, or it is closed."
        ),
        "ORIGIN_NOT_ALLOWED": ErrorCode(
            403,
            False,
            "Pages in browsers may not act in the sandbox. To let some, list the middleware "
            "`cors` with their origin.",
        ),
        "TOO_MANY_SESSIONS": ErrorCode(
            429, True, "As many PTY sessions run as may. End one, or wait until one has ended."
        ),
        "INVALID_TOKEN": ErrorCode(
            403, False, "The PTY session's token is wrong, or there is no such session."
        ),
        "UPGRADE_REQUIRED": ErrorCode(
            426, False, "The route is a WebSocket's: send a handshake of version 13."
        ),
        "PATH_TRAVERSAL": ErrorCode(403, False, "A path may not contain `..`."),
        "PERMISSION_DENIED": ErrorCode(403, False, "The system refuses access to that path."),
        "IS_DIRECTORY": ErrorCode(400, False, "The path is a directory where a file was expected."),
        "NOT_A_DIRECTORY": ErrorCode(400, False, "The path is not a directory."),
        "ALREADY_EXISTS": ErrorCode(
            409, False, "Something is at that path already, and is not replaced."
        ),
        "FILE_BUSY": ErrorCode(
            409, False, "A program that runs cannot be written to, nor a mount point be moved."
        ),
        "CROSS_DEVICE": ErrorCode(
            400, False, "A directory cannot be moved to another file system. Copy it."
        ),
        "OFFSET_MISMATCH": ErrorCode(
            409, False, "The file is shorter than the offset. Go on from its size."
        ),
        "WATCH_LIMIT": ErrorCode(
            429, True, "The system watches as many files as it may. Watch fewer directories."
        ),
        "RANGE_NOT_SATISFIABLE": ErrorCode(416, False, "The range lies outside the file."),
        "DISK_FULL": ErrorCode(507, False, "No space is left for the file."),
        "NOT_A_FILE": ErrorCode(400, False, "The path is neither a file nor a directory."),
        "UNSUPPORTED_USER": ErrorCode(
            400, False, "Processes run as the sandbox's own user. Name that one, or none."
        ),
        "HEAD_TOO_LARGE": ErrorCode(
            431, False, "The request's head is larger than a sandbox takes. Send less in headers."
        ),
        "STOPPING": ErrorCode(503, False, "The sandbox is ending, and starts nothing more."),
    }
)

OF_THE_SDK: Final[Mapping[str, str]] = MappingProxyType(
    {
        "BAD_ANSWER": "What came is no answer of Longshore's, or of another version of it.",
        "COMMAND_FAILED": "A command that was to succeed did not; `result` has its output.",
        "COMMAND_TIMED_OUT": "A command that was to succeed was ended by its timeout.",
        "CONNECTION_FAILED": "Nobody can be reached there. Nothing has been done.",
        "CONNECTION_LOST": "It was cut in the middle. What was asked for may have been done.",
        "DEADLINE_EXCEEDED": "The time of `deadline()` is over. What was asked for may be done.",
        "FILE_CHANGED": "A file was changed while it was being read. Read it again.",
        "TIMEOUT": "Nothing came for too long, or the `timeout` of a wait is over.",
    }
)
"""Codes of errors that the SDK raises without having been answered so."""


def describe(code: str) -> ErrorCode:
    """What the catalogue says of a code; an unlisted one counts as INTERNAL_ERROR."""
    return CATALOGUE.get(code, CATALOGUE["INTERNAL_ERROR"])
