"""Middleware: composed in order, blamed by name; and the one that comes with the proxy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from longshore_core._builtin.cors import Config, Cors
from longshore_core._errors import PluginContractError, PluginCrash
from longshore_core._heads import Flow, Layer, Outcome, RequestHead, ResponseHead
from longshore_core._proxy.answers import SANDBOX_NOT_FOUND
from longshore_core._proxy.layers import Answered, begin, compose, finish, named, tell
from longshore_core._proxy.routing import Decision
from pydantic import ValidationError

UPSTREAM = ResponseHead(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")


class Playbook:
    """Runs a request through layers; `reached` is what came out innermost."""

    def __init__(self, *layers: Layer) -> None:
        self.reached = list[RequestHead]()
        self._ask = compose(named(layers), self._decide)

    def _decide(self, request: RequestHead) -> Decision:
        self.reached.append(request)
        return SANDBOX_NOT_FOUND

    def play(self, request: RequestHead, response: ResponseHead = UPSTREAM) -> ResponseHead:
        exchange = self._ask(request)
        decision = begin(exchange)
        return decision.head if isinstance(decision, Answered) else finish(exchange, response)


def marking(name: bytes) -> Layer:
    def flow(request: RequestHead) -> Flow:
        trail = b"".join(request.get_all(b"trail")) + name
        response = yield request.with_((b"Trail", trail))
        back = b"".join(response.get_all(b"trail")) + name
        return response.with_((b"Trail", back))

    return Layer(flow=flow, name=name.decode())


def broken(flow: Callable[[RequestHead], Flow]) -> Layer:
    return Layer(flow=flow, name="broken")


GET = RequestHead.of(b"GET", b"/", (b"Host", b"x"))


def test_layers_see_requests_in_order_and_responses_in_reverse() -> None:
    play = Playbook(marking(b"a"), Layer(), marking(b"b"))
    assert play.play(GET).get(b"trail") == b"ba"
    assert [head.get(b"trail") for head in play.reached] == [b"ab"]


def test_without_layers_heads_pass_as_they_are() -> None:
    play = Playbook()
    assert play.play(GET) is UPSTREAM
    assert play.reached == [GET]


def test_a_layer_that_answers_is_not_asked_past() -> None:
    def flow(_request: RequestHead) -> Flow:
        return ResponseHead.of(403, body=b"no")
        yield

    play = Playbook(marking(b"a"), broken(flow), marking(b"b"))
    response = play.play(GET)
    assert (response.status, response.body, response.get(b"trail")) == (403, b"no", b"a")
    assert play.reached == []


def test_a_layer_may_put_an_answer_in_place_of_the_sandboxs() -> None:
    def flow(request: RequestHead) -> Flow:
        yield request
        return ResponseHead.of(502, body=b"hidden")

    assert Playbook(broken(flow)).play(GET).body == b"hidden"


def raises(_request: RequestHead) -> Flow:
    raise KeyError("x")
    yield


def raises_after(request: RequestHead) -> Flow:
    yield request
    raise KeyError("x")


def asks_twice(request: RequestHead) -> Flow:
    yield request
    return (yield request)


def yields_nothing(_request: RequestHead) -> Flow:
    return (yield None)  # type: ignore[misc]


def returns_nothing(request: RequestHead) -> Flow:
    yield request
    return None  # type: ignore[return-value]


def answers_bodiless(_request: RequestHead) -> Flow:
    return UPSTREAM
    yield


def grows(request: RequestHead) -> Flow:
    response = yield request
    return response.with_((b"Content-Length", b"4"))


def smuggles(request: RequestHead) -> Flow:
    return (yield request.with_((b"Transfer-Encoding", b"chunked")))


def renames(_request: RequestHead) -> Flow:
    return (yield RequestHead.of(b"HEAD", b"/", (b"Host", b"x")))


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        (asks_twice, "asked twice: bodies have streamed past by then"),
        (yields_nothing, "yielded something other than a RequestHead"),
        (returns_nothing, "returned something other than a ResponseHead"),
        (answers_bodiless, "changed the status or the length of a response"),
        (grows, "changed the status or the length of a response"),
        (smuggles, "changed the method or the length of a request"),
        (renames, "changed the method or the length of a request"),
    ],
)
def test_a_layer_that_breaks_its_contract_is_named(
    flow: Callable[[RequestHead], Flow], message: str
) -> None:
    with pytest.raises(PluginContractError) as caught:
        Playbook(marking(b"a"), broken(flow)).play(GET)
    assert str(caught.value) == f"plugin broken: {message}"


@pytest.mark.parametrize("flow", [raises, raises_after])
def test_a_layer_that_raises_is_named(flow: Callable[[RequestHead], Flow]) -> None:
    with pytest.raises(PluginCrash) as caught:
        Playbook(marking(b"a"), broken(flow)).play(GET)
    assert str(caught.value) == "plugin broken: raised KeyError: 'x'"


def test_a_layer_without_a_name_is_named_by_its_place() -> None:
    assert [layer.name for layer in named([Layer(), Layer(name="x")])] == ["middleware 1", "x"]


def test_every_layer_is_told_though_one_breaks() -> None:
    told = list[Outcome]()
    outcome = Outcome(
        request_id="r", sandbox_id=None, port=None, method="GET", path="/", status=200,
        duration_seconds=0,
    )  # fmt: skip

    def breaks(_outcome: Outcome) -> None:
        raise KeyError("x")

    crashes = tell([Layer(done=breaks, name="b"), Layer(), Layer(done=told.append)], outcome)
    assert told == [outcome]
    assert [str(crash) for crash in crashes] == ["plugin b: raised KeyError: 'x'"]


# CORS.

ORIGIN = b"https://app.example"


def cors(**config: object) -> Playbook:
    return Playbook(Layer(flow=Cors(Config.model_validate(config)).flow))


def preflight(origin: bytes = ORIGIN) -> RequestHead:
    fields = ((b"Origin", origin), (b"Access-Control-Request-Method", b"PUT"))
    return RequestHead.of(b"OPTIONS", b"/", (b"Host", b"x"), *fields)


def said(head: ResponseHead) -> dict[bytes, bytes]:
    return {name: value for name, value in head.items() if name != b"Content-Length"}


def test_a_preflight_is_answered_here() -> None:
    play = cors(allow_methods=["GET"], allow_headers=["A", "B"], max_age_secs=5)
    response = play.play(preflight())
    assert (response.status, play.reached) == (204, [])
    assert said(response) == {
        b"Access-Control-Allow-Methods": b"GET",
        b"Access-Control-Allow-Headers": b"A, B",
        b"Access-Control-Max-Age": b"5",
        b"Access-Control-Allow-Origin": b"*",
    }


def test_options_that_is_no_preflight_is_forwarded() -> None:
    play = cors()
    plain = RequestHead.of(b"OPTIONS", b"/", (b"Host", b"x"))
    play.play(plain)
    play.play(plain.with_((b"Origin", ORIGIN)))
    assert len(play.reached) == 2


def test_without_an_origin_nothing_is_added() -> None:
    assert said(cors().play(GET)) == {}


def test_what_the_sandbox_said_is_replaced() -> None:
    theirs = UPSTREAM.with_(
        (b"Access-Control-Allow-Origin", b"evil"), (b"Access-Control-Allow-Credentials", b"true")
    )
    response = cors().play(GET.with_((b"Origin", ORIGIN)), theirs)
    assert said(response) == {b"Access-Control-Allow-Origin": b"*"}


def test_a_named_origin_is_reflected_and_caches_are_told() -> None:
    play = cors(allow_origins=[ORIGIN.decode()], allow_credentials=True)
    theirs = UPSTREAM.with_((b"Vary", b"Accept"))
    assert said(play.play(GET.with_((b"Origin", ORIGIN)), theirs)) == {
        b"Access-Control-Allow-Origin": ORIGIN,
        b"Access-Control-Allow-Credentials": b"true",
        b"Vary": b"Accept, Origin",
    }


def test_an_origin_that_is_not_allowed_is_left_to_the_sandbox() -> None:
    play = cors(allow_origins=[ORIGIN.decode()])
    theirs = UPSTREAM.with_((b"Access-Control-Allow-Origin", b"https://other"))
    response = play.play(preflight(b"https://other"), theirs)
    assert said(response)[b"Access-Control-Allow-Origin"] == b"https://other"
    assert len(play.reached) == 1


def test_the_sandbox_is_told_which_origin_was_admitted() -> None:
    play = cors(allow_origins=[ORIGIN.decode()])
    admitted, name = GET.with_((b"Origin", ORIGIN)), b"longshore-admitted-origin"
    play.play(admitted)
    play.play(GET.with_((b"Origin", b"https://other")))
    assert [reached.get(name) for reached in play.reached] == [ORIGIN, None]
    assert play.reached[0].get(b"origin") == ORIGIN


def test_credentials_for_every_origin_are_refused() -> None:
    with pytest.raises(ValidationError, match="name the origins"):
        Config(allow_credentials=True)


@pytest.mark.parametrize(
    "origin", ["https://a b", "example.com", "https://a\r\nX: y", "https://a,b"]
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError):
        Config(allow_origins=(origin,))
