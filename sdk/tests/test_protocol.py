"""What a real system cannot be made to do on demand: cuts at a given byte, strangers' answers."""

from __future__ import annotations

import json
import logging

import httpx
import longshore
import pytest
from longshore import Sandbox, SandboxError
from longshore._carrier import finish
from longshore._http import BlockingCarrier
from longshore._session import Listing, Session

from sdk.tests.world import (
    API,
    CREATE,
    ENDED,
    ENDED_WELL,
    FOLLOW,
    INFO,
    KEY,
    ONE,
    RUN,
    START,
    STARTED,
    STARTED_WITH_INPUT,
    Cut,
    World,
    complaint,
    event,
    frame,
    fresh,
)
from tests.machine import fair_time


@pytest.fixture
def world() -> World:
    return World()


def test_a_cut_in_the_middle_of_a_frame_costs_no_byte_and_repeats_none(world: World) -> None:
    half = frame(1, b"second")[:11]
    world.on("POST", RUN, httpx.Response(200, stream=Cut(STARTED + frame(1, b"first") + half)))
    rest = frame(1, b"second") + frame(0, b"") + frame(2, b"\0\xff") + ENDED_WELL
    world.on("GET", FOLLOW, httpx.Response(200, content=rest))
    result = world.attach().run("x")
    assert (result.stdout, result.stderr, result.ok) == (b"firstsecond", b"\0\xff", True)
    assert [one.url.query for one in world.sent("GET", FOLLOW)] == [b"offset=5"]
    assert len(world.sent("POST", RUN)) == 1


def test_a_gap_is_told_with_the_chunk_after_it_and_counted_on_from(world: World) -> None:
    gap = event(gap={"from": 2, "to": 10})
    content = frame(1, b"ab") + gap + frame(1, b"k") + ENDED_WELL
    world.on("GET", FOLLOW, httpx.Response(200, content=content))
    chunks = list(world.attach().process(7))
    assert [(chunk.data, chunk.offset, chunk.missing) for chunk in chunks] == [
        (b"ab", 0, 0),
        (b"k", 10, 8),
    ]


def test_a_result_with_a_gap_ends_before_it_and_says_so(world: World) -> None:
    gap = event(gap={"from": 2, "to": 10})
    content = STARTED + frame(1, b"ab") + gap + frame(1, b"k") + ENDED_WELL
    world.on("POST", RUN, httpx.Response(200, content=content))
    result = world.attach().run("x")
    assert (result.stdout, result.truncated) == (b"ab", True)


def test_output_that_the_sandbox_had_no_room_for_is_told_of(world: World) -> None:
    lost = event(exit_code=0, output_lost=True)
    world.on("POST", RUN, httpx.Response(200, content=STARTED + frame(1, b"ab") + lost))
    result = world.attach().run("x")
    assert (result.stdout, result.ok, result.truncated) == (b"ab", True, True)
    world.on("GET", FOLLOW, httpx.Response(200, content=frame(1, b"ab") + lost))
    output = world.attach().process(7).connect()
    assert output.output_lost is None
    assert [chunk.data for chunk in output] == [b"ab"]
    assert output.output_lost is True


def test_an_answer_that_ends_without_an_outcome_is_a_cut_too(world: World) -> None:
    world.on("POST", RUN, httpx.Response(200, content=STARTED + frame(1, b"a")))
    world.on("GET", FOLLOW, httpx.Response(200, content=frame(1, b"b") + ENDED_WELL))
    assert world.attach().run("x").stdout == b"ab"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.ReadError("reset"), "CONNECTION_LOST"),
        (httpx.ReadTimeout("silence"), "TIMEOUT"),
        (complaint(502, "CONNECTION_CLOSED", retryable=True), "CONNECTION_CLOSED"),
        (complaint(504, "READ_TIMEOUT", retryable=True), "READ_TIMEOUT"),
        (httpx.Response(503, html="<h1>Sorry</h1>"), "HTTP_503"),
    ],
)
def test_a_command_that_may_have_started_is_not_started_again_by_anybody(
    world: World, answer: httpx.Response | Exception, code: str
) -> None:
    world.on("POST", RUN, answer)
    with pytest.raises(SandboxError) as caught:
        world.attach().run("x")
    assert (caught.value.code, caught.value.retryable) == (code, False)
    assert len(world.sent("POST", RUN)) == 1


HEEDS_KEYS = httpx.Response(
    200, json={"healthy": True}, headers={"Longshore-Heeds": "Idempotency-Key"}
)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ReadError("reset"),
        complaint(502, "CONNECTION_CLOSED", retryable=True),
        httpx.Response(200, content=b""),
        httpx.Response(200, stream=Cut(STARTED[:5])),
    ],
)
def test_a_daemon_that_heeds_keys_is_asked_again_for_the_same_process(
    world: World, answer: httpx.Response | Exception
) -> None:
    world.on("GET", "/api/v1/health", HEEDS_KEYS)
    fine = httpx.Response(200, content=STARTED + frame(1, b"once") + ENDED_WELL)
    world.on("POST", RUN, answer, answer, fine)
    assert world.attach().run("x").stdout == b"once"
    asked = world.sent("POST", RUN)
    assert len(asked) == 3
    assert len({(one.headers["Idempotency-Key"], one.content) for one in asked}) == 1


def test_each_command_has_a_key_of_its_own(world: World) -> None:
    world.on("POST", START, STARTED_WITH_INPUT)
    sandbox = world.attach()
    for _ in range(2):
        sandbox.start("x", stdin=True)
    first, second = world.sent("POST", START)
    assert first.headers["Idempotency-Key"] != second.headers["Idempotency-Key"]


@pytest.mark.parametrize(
    ("first", "then", "code"),
    [
        (Cut(), Cut(), "CONNECTION_LOST"),
        # Some bytes of the same beginning, again and again, are no progress.
        (Cut(STARTED[:5]), Cut(STARTED[:5]), "CONNECTION_LOST"),
        (Cut(), httpx.ConnectError("refused"), "CONNECTION_FAILED"),
        (httpx.ReadError("reset"), httpx.ConnectError("refused"), "CONNECTION_FAILED"),
        (httpx.ReadError("reset"), complaint(429, "TOO_MANY", retryable=True), "TOO_MANY"),
    ],
)
def test_a_start_that_stays_unclear_is_not_to_be_tried_again_by_anybody(
    world: World, first: Cut | Exception, then: Cut | Exception | httpx.Response, code: str
) -> None:
    world.on("GET", "/api/v1/health", HEEDS_KEYS)
    answers = [
        httpx.Response(200, stream=each) if isinstance(each, Cut) else each
        for each in (first, then)
    ]
    world.on("POST", RUN, *answers)
    began = fair_time()
    with pytest.raises(SandboxError) as caught:
        world.attach().run("x")
    assert (caught.value.code, caught.value.retryable) == (code, False)
    asked = world.sent("POST", RUN)
    assert len(asked) > 1
    assert len({one.headers["Idempotency-Key"] for one in asked}) == 1
    assert fair_time() - began < 5


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError("refused"),
        complaint(429, "TOO_MANY_SESSIONS", retryable=True),
        complaint(503, "SANDBOX_NOT_RUNNING", retryable=True),
    ],
)
def test_what_cannot_have_been_done_may_be_tried_again(
    world: World, answer: httpx.Response | Exception
) -> None:
    world.on("POST", "/api/v1/pty", answer)
    with pytest.raises(SandboxError) as caught:
        world.attach().terminal("x")
    assert caught.value.retryable


def test_a_command_is_started_again_when_nobody_can_have_seen_it(world: World) -> None:
    fine = httpx.Response(200, content=STARTED + ENDED_WELL)
    starting = complaint(503, "ROUTES_UNKNOWN", retryable=True)
    world.on("POST", RUN, httpx.ConnectError("refused"), starting, fine)
    assert world.attach().run("x").ok


def test_a_cut_of_a_sandbox_that_has_ended_says_so(world: World) -> None:
    world.on("POST", RUN, httpx.Response(200, stream=Cut(STARTED)))
    sandbox = world.attach()
    world.info = ENDED
    with pytest.raises(longshore.SandboxTerminatedError, match="has ended") as caught:
        sandbox.run("x")
    assert caught.value.phase == "run"
    assert "cut" in str(caught.value.__cause__)


def test_cuts_without_end_are_given_up_within_two_seconds(world: World) -> None:
    world.on("POST", RUN, httpx.Response(200, stream=Cut(STARTED)))
    world.on("GET", FOLLOW, httpx.ReadError("reset"))
    sandbox = world.attach()
    world.on("GET", "/api/v1/health", httpx.ConnectError("refused"))
    world.on("GET", ONE, httpx.ConnectError("refused"))
    began = fair_time()
    with pytest.raises(longshore.SandboxConnectionError):
        sandbox.run("x")
    assert fair_time() - began < 2


def test_frames_that_are_none_are_an_error_not_an_output(world: World) -> None:
    world.on("POST", RUN, httpx.Response(200, content=STARTED + b"<html>hello"))
    with pytest.raises(SandboxError, match="no frame begins with 3c68746d6c") as caught:
        world.attach().run("x")
    assert caught.value.code == "BAD_ANSWER"


def test_a_sandbox_is_created_once_however_often_it_is_asked_for(world: World) -> None:
    unavailable = complaint(503, "STORE_UNAVAILABLE", retryable=True)
    fine = httpx.Response(200, json=INFO)
    world.on("POST", CREATE, httpx.ReadError("reset"), unavailable, fine)
    world.create().detach()
    keys = {one.headers["Idempotency-Key"] for one in world.sent("POST", CREATE)}
    assert len(world.sent("POST", CREATE)) == 3
    assert len(keys) == 1


def test_a_key_that_is_given_is_the_one_that_is_sent(world: World) -> None:
    world.create(idempotency_key="mine").detach()
    assert world.sent("POST", CREATE)[0].headers["Idempotency-Key"] == "mine"


def test_what_cannot_succeed_is_not_tried_again(world: World) -> None:
    world.on("POST", CREATE, complaint(422, "INVALID_REQUEST"))
    with pytest.raises(SandboxError, match="INVALID_REQUEST"):
        world.create()
    assert len(world.asked) == 1


def test_a_sandbox_that_does_not_come_to_run_is_deleted(world: World) -> None:
    late = complaint(504, "TIMEOUT", sandbox_id="sb", status="pending")
    world.on("POST", CREATE, late)
    with pytest.raises(longshore.SandboxTimeoutError) as caught:
        world.create(wait_seconds=0.1)
    assert caught.value.sandbox_id == "sb"
    assert len(world.sent("POST", CREATE)) == 1
    assert len(world.sent("DELETE", ONE)) == 1


def test_a_sandbox_whose_creation_was_interrupted_is_found_and_deleted(world: World) -> None:
    def interrupt(request: httpx.Request) -> httpx.Response:
        world.asked.append(request)
        if request.method == "POST" and b"wait" in request.url.query:
            raise KeyboardInterrupt
        return fresh(httpx.Response(200, json=INFO))

    options = longshore.CreateOptions(api_url=API)
    with pytest.raises(KeyboardInterrupt):
        finish(Session.create(BlockingCarrier(httpx.MockTransport(interrupt)), None, options))
    first, second, last = world.asked
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert (last.method, last.url.path) == ("DELETE", ONE)


def test_an_answer_of_somebody_else_is_an_error_that_shows_it(world: World) -> None:
    world.on("GET", ONE, httpx.Response(403, html="<h1>Who are you?</h1>"))
    with pytest.raises(longshore.SandboxPermissionError, match="Who are you") as caught:
        world.attach()
    assert caught.value.code == "HTTP_403"


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"id": 7}', b"\xff"])
def test_an_answer_that_cannot_be_read_says_what_it_was_to(world: World, answer: bytes) -> None:
    world.on("GET", ONE, httpx.Response(200, content=answer))
    with pytest.raises(SandboxError, match="the answer to info") as caught:
        world.attach()
    assert caught.value.code == "BAD_ANSWER"


def test_the_key_goes_to_the_server_alone_and_is_shown_nowhere(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    world.on("GET", "/api/v1/files", complaint(500, "INTERNAL_ERROR"))
    sandbox = world.attach()
    with pytest.raises(SandboxError) as caught:
        sandbox.files.read("x")
    hosts = {one.url.host: one.headers.get("Authorization") for one in world.asked}
    assert hosts == {"api.test": f"Bearer {KEY}", "proxy.test": None}
    assert KEY not in repr(vars(caught.value)) + repr(sandbox) + caplog.text


def test_a_key_that_cannot_be_sent_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="the API key cannot be sent") as caught:
        Sandbox.get("sb", api_key="sk-\n")
    assert "sk-" not in str(caught.value)


def test_what_a_sandbox_sets_as_a_cookie_does_not_come_back(world: World) -> None:
    setting = httpx.Response(200, headers={"Set-Cookie": "a=b; Domain=test"}, content=b"hi")
    world.on("GET", "/page", setting)
    sandbox = world.attach()
    assert sandbox.request("GET", 8080, "/page").text == "hi"
    sandbox.request("GET", 8080, "/page")
    sandbox.info()
    assert [one for one in world.asked if "cookie" in one.headers] == []


def test_a_redirect_is_the_callers_to_follow(world: World) -> None:
    world.on("GET", "/", httpx.Response(302, headers={"Location": "http://evil.test/"}))
    assert world.attach().request("GET", 8080).status == 302


def test_an_option_that_there_is_not_is_named(world: World) -> None:
    with pytest.raises(TypeError, match="no option 'memory'; known: allow_internet_access"):
        world.create(memory=1)


def test_a_size_that_is_left_out_beside_another_is_the_usual_one(world: World) -> None:
    world.create(cpus=2, deny_out=("10.0.0.0/8",)).detach()
    assert json.loads(world.asked[0].content) == {
        "resources": {"cpus": 2, "memory_mb": 1024, "disk_mb": 1024},
        "network": {"deny_out": ["10.0.0.0/8"]},
    }


def test_a_list_is_asked_for_page_by_page(world: World) -> None:
    first = httpx.Response(200, json={"sandboxes": [INFO, INFO], "cursor": "c"})
    last = httpx.Response(200, json={"sandboxes": [INFO]})
    world.on("GET", CREATE, first, last)
    listing = Listing(world.carrier(), "running", longshore.Endpoint(api_url=API))
    sizes = []
    while (page := finish(listing.next())) is not None:
        sizes.append(len(page))
    assert sizes == [2, 1]
    assert [one.url.query for one in world.asked] == [b"status=running", b"status=running&cursor=c"]


def test_an_error_on_the_way_out_does_not_hide_the_one_that_led_there(world: World) -> None:
    sandbox = world.create()
    world.on("DELETE", ONE, complaint(500, "INTERNAL_ERROR"))
    with pytest.raises(ZeroDivisionError) as caught, sandbox:
        _ = 1 / 0
    assert caught.value.__notes__ == ["and then: no (INTERNAL_ERROR, request r)"]


def test_a_sandbox_that_was_closed_says_so_when_it_is_used(world: World) -> None:
    sandbox = world.attach()
    sandbox.close()
    sandbox.close()
    with pytest.raises(longshore.SandboxConnectionError, match="it has been closed here"):
        sandbox.run("x")


def test_the_environment_says_where_the_server_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGSHORE_API_URL", f"{API}/")
    monkeypatch.setenv("LONGSHORE_NAMESPACE", "team/a")
    monkeypatch.setenv("LONGSHORE_API_KEY", KEY)
    finish(Session.attach(world.carrier(), "sb", {}))
    assert str(world.asked[0].url) == f"{API}/v1/namespaces/team%2Fa/sandboxes/sb"
    assert world.asked[0].headers["Authorization"] == f"Bearer {KEY}"


def test_a_key_for_another_server_is_not_given_to_ours(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LONGSHORE_API_URL", "LONGSHORE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TENSORLAKE_API_KEY", KEY)
    finish(Session.attach(world.carrier(), "sb", {"api_url": API}))
    assert "Authorization" not in world.asked[-1].headers
    monkeypatch.setenv("TENSORLAKE_API_URL", API)
    finish(Session.attach(world.carrier(), "sb", {}))
    assert world.asked[-1].headers["Authorization"] == f"Bearer {KEY}"


def test_a_url_that_is_none_is_an_error_of_ours() -> None:
    with pytest.raises(longshore.SandboxConnectionError, match="is no URL of HTTP"):
        Sandbox.get("sb", api_url="ftp://example.test")
