"""Which container and port a request is for, and what an upstream is not told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore_core._codes import CATALOGUE
from longshore_core._heads import RequestHead
from longshore_core._proxy import answers
from longshore_core._proxy.answers import Refusal
from longshore_core._proxy.routing import Forward, route
from longshore_core._proxy.table import FeedBroken, FeedReader, Route, RouteTable

UUID = "12345-abcd"


def running(container: str, sandbox_id: str | None = None, status: str = "running") -> Route:
    return Route(id=container, sandbox_id=sandbox_id, status=status, dir="/d", token="t0k")


@pytest.fixture
def table() -> RouteTable:
    table = RouteTable()
    table.reset([
        running("c1", "s1"),
        running(UUID),
        running("p", status="pending"),
        running("q", status="stopping"),
        running("r", status="terminated"),
        Route(id="nodir", status="running"),
    ])  # fmt: skip
    return table


def ask(*fields: tuple[str, str], target: str = "/", host: str = "h") -> RequestHead:
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in (("Host", host), *fields)]
    return RequestHead.of(b"GET", target.encode(), *pairs)


def forwarded(decision: object) -> Forward:
    assert isinstance(decision, Forward), decision
    return decision


def refused(decision: object) -> tuple[int, str, str]:
    assert isinstance(decision, Refusal), decision
    return decision.status, decision.code, decision.message


ID, PORT = "Tensorlake-Sandbox-Id", "Tensorlake-Sandbox-Port"


@pytest.mark.parametrize("name", [ID, "X-" + ID, ID.lower(), "x-TENSORLAKE-sandbox-id"])
@pytest.mark.parametrize("value", ["c1", "s1"])
def test_a_header_names_a_container_or_a_sandbox(table: RouteTable, name: str, value: str) -> None:
    forward = forwarded(route(ask((name, value)), table))
    assert (forward.route.id, forward.port, forward.sandbox_id) == ("c1", 9501, value)


@pytest.mark.parametrize(
    ("host", "container", "port"),
    [
        ("c1.local", "c1", 9501),
        ("c1.localhost:8095", "c1", 9501),
        ("8080-s1.local", "c1", 8080),
        ("8080-c1.127.0.0.1.nip.io:8095", "c1", 8080),
        ("c1.10-0-0-1.SSLIP.IO", "c1", 9501),
        (f"{UUID}.local", UUID, 9501),
        (f"80-{UUID}.local", UUID, 80),
        ("c1.sandboxes.example", "c1", 9501),
    ],
)
def test_a_host_names_a_sandbox_and_a_port(
    table: RouteTable, host: str, container: str, port: int
) -> None:
    domains = ("local", "localhost", "*.nip.io", "*.sslip.io", "sandboxes.example")
    forward = forwarded(route(ask(host=host), table, domains))
    assert (forward.route.id, forward.port) == (container, port)


@pytest.mark.parametrize(
    "host", ["h", "local", "127.0.0.1:8095", "c1.example.com", "c1.nip.io", ""]
)
def test_any_other_host_names_nothing(table: RouteTable, host: str) -> None:
    expected = (400, "MISSING_SANDBOX_ID", "Missing Tensorlake-Sandbox-Id header")
    assert refused(route(ask(host=host), table)) == expected


def test_a_header_goes_before_the_host(table: RouteTable) -> None:
    forward = forwarded(route(ask((ID, "c1"), host="80-other.local"), table))
    assert (forward.route.id, forward.port) == ("c1", 9501)


def test_the_port_of_a_host_that_names_the_same_sandbox_counts(table: RouteTable) -> None:
    assert forwarded(route(ask((ID, "c1"), host="80-s1.local"), table)).port == 80


def test_the_header_with_a_port_goes_before_the_host(table: RouteTable) -> None:
    assert forwarded(route(ask((PORT, "81"), host="80-s1.local"), table)).port == 81


@pytest.mark.parametrize(
    "value", ["0", "65536", "99999", "-1", "+80", "80 81", "0x50", "8_0", "1e3", "100000", "²"]
)
def test_a_port_that_is_none_is_refused_and_never_9501(table: RouteTable, value: str) -> None:
    expected = (400, "INVALID_SANDBOX_PORT", "The sandbox port must be one number from 1 to 65535")
    assert refused(route(ask((ID, "c1"), ("x-" + PORT, value)), table)) == expected


def test_a_port_out_of_range_in_a_host_is_refused(table: RouteTable) -> None:
    assert refused(route(ask(host="99999-c1.local"), table))[1] == "INVALID_SANDBOX_PORT"


@given(st.integers(1, 65535).filter(lambda port: port != 9500))
def test_every_other_port_is_routed(port: int) -> None:
    table = RouteTable()
    table.reset([running("c1")])
    assert forwarded(route(ask((ID, "c1"), (PORT, str(port))), table)).port == port


def test_the_control_port_is_not_routable(table: RouteTable) -> None:
    decision = route(ask((ID, "c1"), (PORT, "9500")), table)
    assert refused(decision)[:2] == (403, "PORT_NOT_ROUTABLE")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ([(ID, "c1"), ("X-" + ID, "s1")], "BAD_REQUEST"),
        ([(ID, "c1"), (ID, "c2")], "BAD_REQUEST"),
        ([(ID, "c\xe4")], "BAD_REQUEST"),
        ([(ID, "c1"), (PORT, "80"), ("X-" + PORT, "81")], "INVALID_SANDBOX_PORT"),
    ],
)
def test_headers_that_contradict_each_other_are_refused(
    table: RouteTable, fields: list[tuple[str, str]], code: str
) -> None:
    assert refused(route(ask(*fields), table))[:2] == (400, code)


def test_headers_that_say_the_same_twice_are_fine(table: RouteTable) -> None:
    fields = [(ID, "c1"), ("X-" + ID, "c1"), (PORT, "80"), ("X-" + PORT, "80")]
    assert forwarded(route(ask(*fields), table)).port == 80


def test_an_unknown_sandbox_is_not_found(table: RouteTable) -> None:
    expected = (404, "SANDBOX_NOT_FOUND", "Sandbox not found")
    assert refused(route(ask((ID, "nope")), table)) == expected


@pytest.mark.parametrize(
    ("container", "state"), [("p", "pending"), ("q", "stopping"), ("r", "terminated")]
)
def test_a_sandbox_that_does_not_run_says_its_state(
    table: RouteTable, container: str, state: str
) -> None:
    expected = (503, "SANDBOX_NOT_RUNNING", f"Sandbox not running (state: {state})")
    assert refused(route(ask((ID, container)), table)) == expected


def test_a_container_without_a_way_in_refuses(table: RouteTable) -> None:
    assert refused(route(ask((ID, "nodir")), table))[:2] == (502, "CONNECTION_REFUSED")


def test_before_the_worker_has_spoken_nothing_is_known_to_be_missing() -> None:
    assert refused(route(ask((ID, "c1")), RouteTable()))[:2] == (503, "ROUTES_UNKNOWN")


# What goes on to the sandbox.

STRIPPED = [
    (ID, "c1"), ("X-" + PORT, "9501"), ("Longshore-Sandbox-Token", "forged"), ("TE", "trailers"),
    ("Connection", "keep-alive, X-Mine"), ("X-Mine", "1"), ("Keep-Alive", "5"),
    ("Proxy-Connection", "x"), ("Proxy-Authorization", "x"), ("Upgrade", "h2c"),
]  # fmt: skip


def test_routing_and_hop_by_hop_headers_go_no_further(table: RouteTable) -> None:
    head = ask(*STRIPPED, ("Accept", "a"), ("Authorization", "b"), host="c1.local")
    passed = list(forwarded(route(head, table)).head.items())
    assert passed == [
        (b"Host", b"c1.local"),
        (b"Accept", b"a"),
        (b"Authorization", b"b"),
        (b"Longshore-Sandbox-Token", b"t0k"),
    ]


def test_a_user_port_gets_no_token(table: RouteTable) -> None:
    head = forwarded(route(ask(*STRIPPED[:1], STRIPPED[2], (PORT, "80")), table)).head
    assert head.get(b"longshore-sandbox-token") is None


def test_a_client_cannot_have_the_token_removed(table: RouteTable) -> None:
    named = ("Connection", "Longshore-Sandbox-Token")
    head = forwarded(route(ask((ID, "c1"), named), table)).head
    assert head.get(b"longshore-sandbox-token") == b"t0k"


def test_an_upgrade_is_passed_on(table: RouteTable) -> None:
    fields = [(ID, "c1"), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
    forward = forwarded(route(ask(*fields), table))
    assert forward.upgrade
    assert (forward.head.get(b"connection"), forward.head.get(b"upgrade")) == (
        b"Upgrade",
        b"websocket",
    )


def test_an_absolute_target_is_asked_for_as_a_path(table: RouteTable) -> None:
    head = forwarded(route(ask(target="http://80-c1.local:8095?a=b", host="evil"), table)).head
    assert (head.target, head.get_all(b"host")) == (b"/?a=b", (b"80-c1.local:8095",))


@pytest.mark.parametrize("target", ["x", "*", "ftp://h/", "http:///x", "http://u@h/"])
def test_a_target_that_is_no_path_is_refused(table: RouteTable, target: str) -> None:
    decision = route(ask((ID, "c1"), target=target), table)
    assert refused(decision) == (400, "BAD_REQUEST", "The target must be a path")


# The table.


def test_of_two_containers_of_a_sandbox_the_running_one_is_meant() -> None:
    table = RouteTable()
    table.reset([running("old", "s", "terminated"), running("new", "s"), running("x", "s", "odd")])
    found = table.lookup("s")
    assert found is not None
    assert found.id == "new"


def test_of_two_alike_the_later_is_meant() -> None:
    table = RouteTable()
    table.reset([running("old", "s"), running("new", "s")])
    found = table.lookup("s")
    assert found is not None
    assert found.id == "new"


ROUTES = st.builds(
    running, st.sampled_from("abc"), st.sampled_from([None, "s", "t"]), st.just("running")
)
CHANGES = st.lists(
    st.one_of(ROUTES, st.sampled_from("abc"), st.lists(ROUTES, max_size=3)), max_size=20
)


@given(CHANGES)
def test_the_table_equals_a_dictionary_by_container(changes: list[object]) -> None:
    table, model = RouteTable(), dict[str, Route]()
    for change in changes:
        match change:
            case Route():
                table.put(change)
                model[change.id] = change
            case str():
                table.drop(change)
                model.pop(change, None)
            case list():
                table.reset(change)
                model = {one.id: one for one in change}
    assert len(table) == len(model)
    for name in "abc":
        assert table.lookup(name) == model.get(name)
    for sandbox_id in "st":
        found, members = (
            table.lookup(sandbox_id),
            [one for one in model.values() if one.sandbox_id == sandbox_id],
        )
        assert (found in members) if members else (found is None)


def line(**message: object) -> bytes:
    return json.dumps(message).encode()


WIRE = {"id": "c1", "sandbox_id": "s1", "status": "running", "dir": "/d", "token": "t"}


def test_the_feed_is_applied_in_order() -> None:
    table = RouteTable()
    reader = FeedReader(table)
    assert reader.apply(line(v=1, epoch="e", seq=7, reset=[])) == 7
    assert reader.apply(line(seq=8, put=WIRE)) == 8
    assert table.lookup("s1") == Route(
        id="c1", sandbox_id="s1", status="running", dir="/d", token="t"
    )
    assert reader.apply(line(seq=9, drop="c1")) == 9
    assert table.lookup("c1") is None


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (line(seq=3, drop="x"), "the route feed went from 1 to 3"),
        (line(seq=1, drop="x"), "the route feed went from 1 to 1"),
        (line(seq=2), "line 2 of the route feed has neither put nor drop"),
        (line(drop="x"), "a line of the route feed has no number"),
        (b"[]", "a line of the route feed is not an object"),
        (line(seq=2, put={"id": 1}), "a route lacks its id or its status"),
        (line(seq=2, put=[]), "a route is not an object"),
        (line(seq=2, put=WIRE | {"dir": 1}), "the route of c1 has a field that is not text"),
        (line(seq=2, put=WIRE | {"token": "a\nb"}),
         "the route of c1 has a token that cannot be sent"),
        (line(seq=5, v=2, reset=[]), "the route feed is of version 2, not 1"),
        (line(seq=5, v=1, reset={}), "the reset of the route feed is not a list"),
    ],
)  # fmt: skip
def test_a_feed_that_cannot_be_followed_is_given_up(last: bytes, message: str) -> None:
    reader = FeedReader(RouteTable())
    reader.apply(line(v=1, epoch="e", seq=1, reset=[]))
    with pytest.raises(FeedBroken) as caught:
        reader.apply(last)
    assert str(caught.value) == message


def test_a_feed_begins_with_the_whole_table() -> None:
    with pytest.raises(FeedBroken, match="the route feed did not begin with the whole table"):
        FeedReader(RouteTable()).apply(line(seq=1, drop="x"))


def test_a_broken_reset_leaves_the_table_as_it_was() -> None:
    table = RouteTable()
    FeedReader(table).apply(line(v=1, epoch="e", seq=1, reset=[WIRE]))
    with pytest.raises(FeedBroken):
        FeedReader(table).apply(line(v=1, epoch="f", seq=1, reset=[{"id": "x"}]))
    assert table.lookup("c1") is not None


def test_a_route_does_not_show_its_token() -> None:
    assert "t0k" not in repr(running("c1"))


# The answers.

ALL = [value for value in vars(answers).values() if isinstance(value, Refusal)]


@pytest.mark.parametrize(
    "refusal", [*ALL, answers.not_running("pending")], ids=lambda one: one.code
)
def test_every_answer_is_json_with_all_fields(refusal: Refusal) -> None:
    head = refusal.answer("r1")
    assert head.body is not None
    assert json.loads(head.body) == {
        "error": refusal.message,
        "message": refusal.message,
        "code": refusal.code,
        "retryable": refusal.retryable,
        "request_id": "r1",
    }
    assert head.get(b"content-length") == str(len(head.body)).encode()
    assert head.get(b"content-type") == b"application/json"


@pytest.mark.parametrize(
    "refusal", [one for one in ALL if one.code in CATALOGUE], ids=lambda one: one.code
)
def test_an_answer_agrees_with_the_catalogue(refusal: Refusal) -> None:
    entry = CATALOGUE[refusal.code]
    assert (refusal.status, refusal.retryable) == (entry.status, entry.retryable)
