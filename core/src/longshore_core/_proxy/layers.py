"""Middleware, composed: one flow out of many, and the blame for what goes wrong in each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, TypeVar

from longshore_core._errors import PluginContractError, PluginCrash
from longshore_core._heads import Headers, Layer, Outcome, RequestHead, ResponseHead
from longshore_core._proxy.routing import Decision

Exchange: TypeAlias = Generator[Decision, ResponseHead, ResponseHead]
"""Yields once what was decided about a request; is sent the head of the response to it, or of the
refusal; returns what the client gets. A layer that answers itself returns without yielding."""

Ask: TypeAlias = Callable[[RequestHead], Exchange]
_FRAMING: Final = (b"content-length", b"transfer-encoding")
AnswerT = TypeVar("AnswerT")
GivenT = TypeVar("GivenT")


@dataclass(frozen=True, slots=True)
class Answered:
    """An exchange that has come to its end: what the client gets."""

    head: ResponseHead


def named(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The same layers, each with a name to blame."""
    return tuple(
        layer if layer.name else replace(layer, name=f"middleware {number}")
        for number, layer in enumerate(layers, 1)
    )


def compose(layers: Sequence[Layer], decide: Callable[[RequestHead], Decision]) -> Ask:
    """One exchange through all layers, the first outermost, around the decision where it goes."""

    def innermost(request: RequestHead) -> Exchange:
        return (yield decide(request))

    ask: Ask = innermost
    for layer in reversed(layers):
        if layer.flow is not None:
            ask = _around(layer, ask)
    return ask


def begin(exchange: Exchange) -> Decision | Answered:
    """Run an exchange up to the decision. Raises PluginError when a layer breaks."""
    try:
        return next(exchange)
    except StopIteration as stop:
        return Answered(stop.value)


def finish(exchange: Exchange, head: ResponseHead) -> ResponseHead:
    """What the client gets, now that `head` is the response. Raises PluginError."""
    try:
        exchange.send(head)
    except StopIteration as stop:
        final: ResponseHead = stop.value
        return final
    # `_around` lets no layer ask twice, and `innermost` does not.
    raise PluginContractError("", "the exchange did not end with its response")


def _around(layer: Layer, inner: Ask) -> Ask:
    flow = layer.flow
    assert flow is not None

    def ask(request: RequestHead) -> Exchange:
        try:
            asked = blame(layer.name, flow, request)
            passed = blame(layer.name, next, asked)
        except StopIteration as stop:
            return _response(layer, stop.value)
        response = yield from inner(_request(layer, request, passed))
        try:
            blame(layer.name, asked.send, response)
        except StopIteration as stop:
            return _response(layer, stop.value, response)
        asked.close()
        raise PluginContractError(layer.name, "asked twice: bodies have streamed past by then")

    return ask


def _request(layer: Layer, before: RequestHead, after: object) -> RequestHead:
    if not isinstance(after, RequestHead):
        raise PluginContractError(layer.name, "yielded something other than a RequestHead")
    if after is not before and (after.method != before.method or not _framing_kept(before, after)):
        raise PluginContractError(layer.name, "changed the method or the length of a request")
    return after


def _response(layer: Layer, after: object, before: ResponseHead | None = None) -> ResponseHead:
    if not isinstance(after, ResponseHead):
        raise PluginContractError(layer.name, "returned something other than a ResponseHead")
    if after is before or after.body is not None:
        return after
    if before is None or after.status != before.status or not _framing_kept(before, after):
        raise PluginContractError(layer.name, "changed the status or the length of a response")
    return after


def _framing_kept(before: Headers, after: Headers) -> bool:
    # The body streams past: what says how long it is must stay what it is.
    return all(before.get_all(name) == after.get_all(name) for name in _FRAMING)


def tell(layers: Sequence[Layer], outcome: Outcome) -> list[PluginCrash]:
    """Tell every layer how a request ended; the answer is who broke over it."""
    crashes = list[PluginCrash]()
    for layer in layers:
        if layer.done is not None:
            try:
                blame(layer.name, layer.done, outcome)
            except PluginCrash as crash:
                crashes.append(crash)
    return crashes


def blame(plugin: str, call: Callable[[GivenT], AnswerT], given: GivenT) -> AnswerT:
    """Call into a plugin: what it raises becomes a PluginCrash. StopIteration passes."""
    try:
        return call(given)
    except (StopIteration, PluginCrash):
        raise
    except Exception as exc:
        raise _crash(plugin, exc) from exc


async def admit(layer: Layer, request: RequestHead) -> ResponseHead | None:
    """What a layer with `admit` says to a request. The caller sets the deadline.

    Raises PluginError when the layer breaks; a deadline of its own counts as that.
    """
    assert layer.admit is not None
    try:
        answer = await layer.admit(request)
    except PluginCrash:
        raise
    except Exception as exc:
        raise _crash(layer.name, exc) from exc
    return None if answer is None else _response(layer, answer)


def _crash(plugin: str, exc: Exception) -> PluginCrash:
    return PluginCrash(plugin, f"raised {type(exc).__name__}: {exc}")
