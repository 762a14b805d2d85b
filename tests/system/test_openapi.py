"""The server, held to its own OpenAPI document by requests that nobody would write by hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import content_type_conformance, response_schema_conformance

from tests.system.harness import System, system, until

EXAMPLES = int(os.environ.get("LONGSHORE_EXAMPLES", "40"))
"""For each operation; a long run takes thousands."""
TYPED = {"UNSUPPORTED_CAPABILITY", "TIMEOUT"}
"""What a server without a worker may answer with 500 and above."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with system(tmp_path_factory.mktemp("openapi")) as one:
        one.start("server")
        until(lambda: one.answers(one.api, "/healthz"), "the server answers")
        yield one


def test_every_answer_is_of_the_promised_shape_and_no_error_is_untyped(whole: System) -> None:
    schema = schemathesis.openapi.from_url(f"{whole.api.base_url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 15
    for operation in operations:
        _examine(operation)
    assert whole.answers(whole.api, "/healthz")


def _examine(operation: Any) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def examine(case: Any) -> None:
        # Nobody works here: who waits for a sandbox to run is as patient as the header says.
        response = case.call(headers={"X-Tensorlake-Request-Timeout-Ms": "50"}, timeout=20)
        told = f"{case.as_curl_command()}\n{response.status_code} {response.text[:2000]}"
        if response.status_code < 400:
            checks = [content_type_conformance, response_schema_conformance]
            case.validate_response(response, checks=checks)
            return
        body = response.json()
        assert {"error", "message", "code", "retryable", "request_id"} <= body.keys(), told
        assert response.status_code < 500 or body["code"] in TYPED, told

    examine()
