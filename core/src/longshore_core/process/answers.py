"""Errors as HTTP callers see them: one body everywhere, codes from one catalogue."""

from __future__ import annotations

from typing import TypedDict

from longshore_core._codes import CATALOGUE as CATALOGUE
from longshore_core._codes import ErrorCode as ErrorCode
from longshore_core._codes import describe as describe
from longshore_core._errors import LongshoreError, RequestError


class ErrorBody(TypedDict):
    """`error` and `message` are the same text: clients of the field read one or the other."""

    error: str
    message: str
    code: str
    retryable: bool
    request_id: str


def error_body(
    code: str, message: str, request_id: str, *, retryable: bool | None = None
) -> ErrorBody:
    """The JSON object of an error answer. `retryable` defaults to what the catalogue says."""
    return ErrorBody(
        error=message,
        message=message,
        code=code,
        retryable=describe(code).retryable if retryable is None else retryable,
        request_id=request_id,
    )


def answer_for(error: LongshoreError, request_id: str) -> tuple[int, ErrorBody]:
    """The status and body for one of our own errors."""
    if isinstance(error, RequestError):
        body = error_body(error.code, str(error), request_id, retryable=error.retryable or None)
        return error.status, body
    code = error.code if error.code in CATALOGUE else "INTERNAL_ERROR"
    return describe(code).status, error_body(code, str(error), request_id)
