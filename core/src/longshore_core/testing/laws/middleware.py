"""What every middleware of the proxy keeps."""

from __future__ import annotations

import time
from typing import Final

import anyio

from longshore_core.abc import Layer, Outcome, RequestHead, ResponseHead
from longshore_core.testing.bench import SeamBench
from longshore_core.testing.expect import Broken, equal, expect
from longshore_core.testing.law import Group, Law, laws_in

MiddlewareBench = SeamBench[Layer]
MIDDLEWARE: Final[Group[MiddlewareBench]] = Group("middleware")

_HOST: Final = (b"Host", b"sandbox.example")
_REQUESTS: Final = (
    RequestHead.of(b"GET", b"/", _HOST),
    RequestHead.of(b"POST", b"/a/b?c=d&e", _HOST, (b"Content-Length", b"3")),
    RequestHead.of(b"OPTIONS", b"/", _HOST, (b"Origin", b"https://app.example")),
    RequestHead.of(b"GET", b"/x", _HOST, (b"Origin", b"null"), (b"X-Odd", b"\xe9\xff")),
    RequestHead.of(b"GET", b"/ws", _HOST, (b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")),
)
_RESPONSES: Final = (
    ResponseHead.of(200, (b"Content-Type", b"text/plain"), body=b"x"),
    ResponseHead.of(204),
    ResponseHead.of(503, (b"Vary", b"*"), (b"Set-Cookie", b"a=b"), (b"Set-Cookie", b"c=d")),
)


@MIDDLEWARE.law("MW1")
async def a_flow_answers_every_head_and_asks_at_most_once(bench: MiddlewareBench) -> None:
    for request in _REQUESTS:
        for response in _RESPONSES:
            _through(bench.thing, request, response)


@MIDDLEWARE.law("MW2")
async def a_flow_changes_no_head_that_it_was_given(bench: MiddlewareBench) -> None:
    for request in _REQUESTS:
        for response in _RESPONSES:
            before = request.serialise(), response.serialise()
            _through(bench.thing, request, response)
            equal((request.serialise(), response.serialise()), before, "the heads after a flow")


@MIDDLEWARE.law("MW3")
async def the_same_heads_get_the_same_answer(bench: MiddlewareBench) -> None:
    for request in _REQUESTS:
        answers = {_through(bench.thing, request, _RESPONSES[0]).serialise() for _ in range(3)}
        expect(len(answers) == 1, f"{request!r} got {len(answers)} different answers")


@MIDDLEWARE.law("MW4")
async def a_flow_is_quick(bench: MiddlewareBench) -> None:
    began = time.perf_counter()
    for _ in range(200):
        _through(bench.thing, _REQUESTS[2], _RESPONSES[0])
    each = (time.perf_counter() - began) / 200
    bench.record("flow_seconds", each)
    expect(each < 0.005, f"a flow takes {each * 1000:.1f} ms; the proxy waits for it")


@MIDDLEWARE.law("MW5")
async def what_asks_elsewhere_answers_within_its_deadline(bench: MiddlewareBench) -> None:
    if bench.thing.admit is None:
        return
    with anyio.fail_after(10):
        for request in _REQUESTS:
            answer = await bench.thing.admit(request)
            if answer is not None:
                whole = _answer(answer).body is not None
                expect(whole, f"admit answered {answer!r}, which is no whole answer")


@MIDDLEWARE.law("MW6")
async def being_told_of_an_end_raises_nothing(bench: MiddlewareBench) -> None:
    if bench.thing.done is None:
        return
    for status, error in ((200, None), (499, None), (502, "CONNECTION_REFUSED")):
        bench.thing.done(
            Outcome(
                request_id="r",
                sandbox_id=None,
                port=None,
                method="GET",
                path="/",
                status=status,
                duration_seconds=0.1,
                error=error,
            )
        )


def _through(layer: Layer, request: RequestHead, response: ResponseHead) -> ResponseHead:
    """What comes out of a layer when the inside answers so."""
    if layer.flow is None:
        return response
    flow = layer.flow(request)
    try:
        _asked(next(flow))
    except StopIteration as stop:
        return _answer(stop.value)
    try:
        flow.send(response)
    except StopIteration as stop:
        return _answer(stop.value)
    raise Broken("a flow asked further in twice")


def _asked(value: object) -> None:
    if not isinstance(value, RequestHead):
        raise Broken(f"a flow asked further in with {value!r}")


def _answer(value: object) -> ResponseHead:
    if not isinstance(value, ResponseHead):
        raise Broken(f"answered with {value!r}, which is no response")
    return value


LAWS: Final[tuple[Law[MiddlewareBench], ...]] = laws_in(globals())
