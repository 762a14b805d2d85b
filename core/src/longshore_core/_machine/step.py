"""How a container's life goes on: `step(container, event, now) -> (container, effects)`.

Three rules:
- every transition of a container's life is here;
- what the world should do next is returned, never done; time is the effect `Wake`;
- a fact that was true when it was sent and is moot now is ignored by name; one that cannot be is
  a KernelBug, and quarantines its container.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, TypeAlias, assert_never

from longshore_core._errors import KernelBug
from longshore_core._machine.life import (
    Abandon,
    Admit,
    Admitted,
    Admitting,
    Ask,
    Container,
    Create,
    Created,
    Creating,
    Delivered,
    Effect,
    Ending,
    Event,
    Exited,
    Failed,
    Forget,
    Halt,
    Order,
    Publish,
    Release,
    Released,
    Releasing,
    Remove,
    Removed,
    Removing,
    ReportStarted,
    ReportTerminated,
    Revoke,
    Running,
    Start,
    Started,
    Starting,
    Stopping,
    Surveyed,
    Terminated,
    TerminationReason,
    Unhealthy,
    Unwanted,
    Wake,
    Wanted,
    Watch,
    Woken,
)
from longshore_core._model import Attachment, Exit, Found, Handle, Phase

Step: TypeAlias = tuple[Container, tuple[Effect, ...]]

GRACE_SECONDS: Final = 10.0
RETRY_SECONDS: Final = (0.1, 0.5, 2.0, 5.0, 15.0, 30.0)
"""Pauses between attempts to remove; the last one repeats."""


def begin(order: Order, *, incarnation: int, token: str, now: float) -> Step:
    """The first step of a life. A sandbox's timeout counts from here; a warm container's waits."""
    container = Container(
        order=order,
        life=Creating(),
        incarnation=incarnation,
        token=token,
        claimed_at=None if order.sandbox_id is None else now,
    )
    return container, (Publish(container=container), Create(order=order))


def refuse(order: Order, why: Ending, *, incarnation: int) -> Step:
    """A life that ends before it begins: the server is told why, and nothing is made."""
    life = Terminated(why=why)
    container = Container(order=order, life=life, incarnation=incarnation, token="")
    return container, (ReportTerminated(why=why),)


def quarantine(container: Container, bug: KernelBug) -> Step:
    """End a container whose state cannot be trusted, whatever that state is."""
    why = Ending(reason=TerminationReason.INTERNAL_ERROR, message=str(bug), code=bug.code)
    if isinstance(container.life, Removing | Terminated):
        return replace(container, quarantined=True), ()
    return _remove(replace(container, quarantined=True), why)


def step(container: Container, event: Event, now: float, grace: float = GRACE_SECONDS) -> Step:
    """One transition. `now` is in seconds since the epoch, `grace` what an orderly end may take.

    Raises KernelBug for an event that cannot come in the container's state.
    """
    match event:
        case Wanted() | Unwanted() | Delivered():
            return _wish(container, event, now, grace)
        case Surveyed(found=found):
            return _resume(container, found, now)
        case Woken():
            return _woken(container, now, grace)
        case Exited() | Unhealthy() | Failed():
            return _setback(container, event, now)
        case Created() | Started() | Admitted() | Released() | Removed():
            return _progress(container, event, now)
        case _ as never:
            assert_never(never)


def _progress(
    container: Container, event: Created | Started | Admitted | Released | Removed, now: float
) -> Step:
    match container.life, event:
        case Creating(), Created(handle=handle):
            return replace(container, life=Starting(handle=handle)), (Start(handle=handle),)
        case Starting(handle=handle), Started(attachment=attachment):
            return _admit(container, handle, attachment)
        case Admitting(handle=handle, attachment=attachment), Admitted():
            return _release(container, handle, attachment)
        case Releasing(handle=handle, attachment=attachment), Released():
            running = replace(container, life=Running(handle=handle, attachment=attachment))
            ask = Ask(attachment=attachment)
            return running, (Publish(container=running), ask, *_timer(running), ReportStarted())
        # The policy of a container was put in force again, after a restart or a change.
        case ((Releasing() | Running()), Admitted()):
            return container, ()
        case Removing(policy_stays=True), Removed():
            return _remove_again(container, container.life, now)
        case Removing(why=why), Removed():
            gone = replace(container, life=Terminated(why=why))
            return gone, (Publish(container=gone), ReportTerminated(why=why))
        # Stale: it was on its way when the container was abandoned. `Remove` asks by id.
        case Stopping() | Removing(), Created() | Started() | Admitted() | Released():
            return container, ()
        # Stale: a removal that was asked for twice.
        case Terminated(), Removed():
            return container, ()
        case _:
            raise _impossible(container, event)


def _wish(
    container: Container, event: Wanted | Unwanted | Delivered, now: float, grace: float
) -> Step:
    match container.life, event:
        case Terminated(), Delivered():
            return container, (Forget(),)
        # A new life under the id of one that has ended begins with `begin`.
        case (_, Delivered()) | (Terminated(), Wanted()):
            raise _impossible(container, event)
        # Stale: the server will hear that it ended, and decide then.
        case ((Stopping() | Removing()), Wanted()):
            return container, ()
        case _, Wanted(order=order):
            return _amend(container, order, now)
        # Stale: it is on its way out, or out.
        case ((Stopping() | Removing() | Terminated()), Unwanted()):
            return container, ()
        case Running(), Unwanted(message=message):
            why = Ending(reason=TerminationReason.FUNCTION_CANCELLED, message=message)
            return _stop(container, container.life, why, now + grace)
        case _, Unwanted(message=message):
            why = Ending(reason=TerminationReason.FUNCTION_CANCELLED, message=message)
            return _remove(container, why)
        case _ as never:
            assert_never(never)


def _amend(container: Container, order: Order, now: float) -> Step:
    """A new description of a live container: a claim, another timeout, another policy."""
    before = container.order
    claimed = before.sandbox_id is None and order.sandbox_id is not None
    amended = replace(container, order=order, claimed_at=now if claimed else container.claimed_at)
    if order.says_the_same(before):
        return amended, ()
    effects: list[Effect] = []
    # Also while it starts: the lane has an `Admit` of the earlier policy already.
    life = amended.life
    if isinstance(life, Admitting | Releasing | Running) and order.policy != before.policy:
        effects.append(Admit(attachment=life.attachment, policy=order.policy))
    effects += (Publish(container=amended), *_timer(amended))
    if claimed and isinstance(life, Running):
        effects.append(ReportStarted())
    return amended, tuple(effects)


def _setback(container: Container, event: Exited | Unhealthy | Failed, now: float) -> Step:
    match container.life, event:
        case Stopping(handle=handle, why=why), Exited(exit=exit_):
            return _remove(container, replace(why, exit=exit_), handle)
        # The order to stop did not get through: the grace period will end it.
        case Stopping(), Unhealthy() | Failed():
            return container, ()
        # The removal behind it in the lane goes on: nobody stays because a rule does.
        case Removing() as life, Failed(operation="revoke"):
            return replace(container, life=replace(life, policy_stays=True)), ()
        case Removing() as life, Failed(operation="remove"):
            return _remove_again(container, life, now)
        # Stale: what went wrong is being removed already.
        case ((Removing() | Terminated()), _):
            return container, ()
        case Running(), Exited(exit=exit_):
            return _remove(container, _ended(exit_))
        case Running(), Unhealthy(message=message):
            return _remove(container, Ending(reason=TerminationReason.UNHEALTHY, message=message))
        case _, Exited(exit=exit_):
            before_ready = replace(
                _ended(exit_), reason=TerminationReason.STARTUP_FAILED_INTERNAL_ERROR
            )
            return _remove(container, before_ready)
        case _, Unhealthy(message=message):
            why = Ending(reason=TerminationReason.STARTUP_FAILED_INTERNAL_ERROR, message=message)
            return _remove(container, why)
        case _, Failed(why=why):
            return _remove(container, why)
        case _ as never:
            assert_never(never)


def _woken(container: Container, now: float, grace: float) -> Step:
    match container.life:
        case Running() if container.expires_at is not None and container.expires_at <= now:
            seconds = container.order.timeout_seconds
            why = Ending(
                reason=TerminationReason.FUNCTION_TIMEOUT,
                message=f"the sandbox's timeout of {seconds:g} seconds has passed",
            )
            return _stop(container, container.life, why, now + grace)
        case Stopping(handle=handle, why=why, kill_at=kill_at) if kill_at <= now:
            return _remove(container, why, handle)
        case Removing(handle=handle) as life if life.attempts:
            trying = replace(container, life=replace(life, policy_stays=False))
            return trying, (Abandon(), Revoke(), Remove(handle=handle))
        # Stale, or early, as after a start of the host with its clock set back: asked for again.
        case Running() | Stopping():
            return container, _timer(container)
        case _:
            return container, ()


def _resume(container: Container, found: Found | None, now: float) -> Step:
    """Go on after a restart, from what the store says and what the driver has found.

    Every effect that may have been in flight is asked for again; each is idempotent.
    """
    match container.life:
        case Terminated():
            return container, ()
        case Removing(handle=handle) as life:
            trying = replace(container, life=replace(life, policy_stays=False))
            return trying, (Publish(container=trying), Revoke(), Remove(handle=handle))
        case _ if found is None or found.phase is Phase.EXITED:
            return _resume_ended(container, found)
        # Its PID 1 has run already, and does not any more: an engine that has lost it.
        case Running() | Stopping() if found.phase is Phase.CREATED:
            return _resume_ended(container, found)
        case _ if found.phase is Phase.CREATED:
            starting = replace(container, life=Starting(handle=found.handle))
            return starting, (Publish(container=starting), Start(handle=found.handle))
        case Creating() | Starting():
            return _admit(container, found.handle, found.attachment or Attachment())
        case Admitting() | Releasing() | Running() | Stopping() as life:
            attachment = found.attachment or life.attachment
            fresh = replace(life, handle=found.handle, attachment=attachment)
            return _resume_attached(replace(container, life=fresh), fresh)
        case _ as never:
            assert_never(never)


def _resume_ended(container: Container, found: Found | None) -> Step:
    match container.life:
        case Creating() if found is None:
            return container, (Publish(container=container), Create(order=container.order))
        case Stopping(why=why):
            return _remove(container, replace(why, exit=found.exit if found else None))
        case Running():
            why = _ended((found.exit if found else None) or Exit())
        case _:
            why = replace(
                _ended((found.exit if found else None) or Exit()),
                reason=TerminationReason.STARTUP_FAILED_INTERNAL_ERROR,
            )
    return _remove(container, why, found.handle if found else None)


def _resume_attached(
    container: Container, life: Admitting | Releasing | Running | Stopping
) -> Step:
    watch = Watch(handle=life.handle)
    publish = Publish(container=container)
    policy = Admit(attachment=life.attachment, policy=container.order.policy)
    match life:
        case Admitting():
            return container, (publish, watch, policy)
        case Releasing():
            # What was in force before the restart may have gone with the host's tables.
            again = replace(
                container, life=Admitting(handle=life.handle, attachment=life.attachment)
            )
            return again, (publish, watch, policy)
        case Running():
            ask = Ask(attachment=life.attachment)
            return container, (policy, publish, watch, ask, *_timer(container))
        case Stopping():
            halt = Halt(handle=life.handle, attachment=life.attachment)
            return container, (publish, watch, halt, *_timer(container))
        case _ as never:
            assert_never(never)


def _admit(container: Container, handle: Handle, attachment: Attachment) -> Step:
    held = replace(container, life=Admitting(handle=handle, attachment=attachment))
    return held, (
        Publish(container=held),
        Watch(handle=handle),
        Admit(attachment=attachment, policy=container.order.policy),
    )


def _release(container: Container, handle: Handle, attachment: Attachment) -> Step:
    releasing = replace(container, life=Releasing(handle=handle, attachment=attachment))
    effect = Release(attachment=attachment, order=container.order, token=container.token)
    return releasing, (effect,)


def _stop(container: Container, life: Running, why: Ending, kill_at: float) -> Step:
    stopping = replace(
        container,
        life=Stopping(handle=life.handle, attachment=life.attachment, why=why, kill_at=kill_at),
    )
    halt = Halt(handle=life.handle, attachment=life.attachment)
    return stopping, (Publish(container=stopping), halt, Wake(at=kill_at))


def _remove(container: Container, why: Ending, handle: Handle | None = None) -> Step:
    known = handle or getattr(container.life, "handle", None)
    removing = replace(container, life=Removing(handle=known, why=why))
    return removing, (
        Abandon(),
        Publish(container=removing),
        Revoke(),
        Remove(handle=known),
    )


def _remove_again(container: Container, life: Removing, now: float) -> Step:
    pause = RETRY_SECONDS[min(life.attempts, len(RETRY_SECONDS) - 1)]
    waiting = replace(container, life=replace(life, attempts=life.attempts + 1))
    return waiting, (Wake(at=now + pause),)


def _timer(container: Container) -> tuple[Wake, ...]:
    match container.life:
        case Running() if container.expires_at is not None:
            return (Wake(at=container.expires_at),)
        case Stopping(kill_at=kill_at):
            return (Wake(at=kill_at),)
        case _:
            return ()


def _ended(exit_: Exit) -> Ending:
    """Why a container that nobody asked to end has ended: told apart truthfully, or unknown."""
    if exit_.oom:
        reason, message = TerminationReason.OOM, "the sandbox ran out of memory"
    elif exit_.signal is not None:
        reason = TerminationReason.PROCESS_CRASH
        message = f"PID 1 was killed by signal {exit_.signal}"
    elif exit_.code is not None:
        reason = TerminationReason.PROCESS_CRASH
        message = f"PID 1 ended by itself with exit code {exit_.code}"
    else:
        reason, message = TerminationReason.UNKNOWN, "PID 1 is gone and nobody saw how it ended"
    return Ending(reason=reason, message=message, exit=exit_)


def _impossible(container: Container, event: Event) -> KernelBug:
    return KernelBug(
        f"{type(event).__name__} while {type(container.life).__name__} ({container.id})"
    )
