"""Ends told apart: codes, signals, faults, memory."""

from __future__ import annotations

from signal import SIGKILL, SIGSEGV, SIGTERM

import pytest
from longshore_core import Exit
from longshore_docker.endings import ending, is_doubtful


def event(action: str, seconds: float = 0, **attributes: str) -> dict[str, object]:
    at = int(seconds * 1e9)
    return {"Action": action, "timeNano": at, "Actor": {"Attributes": attributes}}


def killed(signal: int, seconds: float = 0) -> dict[str, object]:
    return event("kill", seconds, signal=str(signal))


OOM = event("oom")


@pytest.mark.parametrize("code", [0, 1, 43, 128, 137, 143, 255])
def test_a_code_is_a_code_when_nobody_has_sent_a_signal(code: int) -> None:
    assert ending(code, oom=False) == Exit(code=code)


def test_a_signal_that_was_sent_is_what_ended_it() -> None:
    assert ending(137, oom=False, past=[killed(9)]) == Exit(signal=SIGKILL)
    assert ending(143, oom=False, past=[killed(15)]) == Exit(signal=SIGTERM)


def test_a_signal_that_it_survived_did_not_end_it() -> None:
    assert ending(7, oom=False, past=[killed(15)]) == Exit(code=7)
    assert ending(137, oom=False, past=[killed(15)]) == Exit(code=137)


def test_a_fault_ends_pid_1_without_anybody_sending_anything() -> None:
    assert ending(139, oom=False) == Exit(signal=SIGSEGV)
    assert not is_doubtful(139)


def test_memory_that_ran_out_is_told_by_the_state_or_by_the_past() -> None:
    assert ending(137, oom=True) == Exit(signal=SIGKILL, oom=True)
    assert ending(137, oom=False, past=[OOM]) == Exit(signal=SIGKILL, oom=True)


def test_a_child_that_ran_out_of_memory_is_not_the_end_of_pid_1() -> None:
    assert ending(0, oom=True) == Exit(code=0)
    assert ending(1, oom=True) == Exit(code=1)
    later = [OOM, event("die", 60)]
    assert ending(0, oom=True, past=[OOM, event("die", 0.1)]) == Exit(code=0)
    assert ending(1, oom=True, past=later) == Exit(code=1)
    assert ending(137, oom=True, past=later) == Exit(code=137)


def test_a_kill_after_memory_ran_out_is_the_end_of_pid_1() -> None:
    past = [OOM, killed(9, 0.1), event("die", 0.2)]
    assert ending(137, oom=True, past=past) == Exit(signal=SIGKILL)
    # What was remembered of it, the engine has forgotten.
    assert ending(137, oom=True, past=past[1:]) == Exit(signal=SIGKILL)


def test_a_program_that_ends_with_its_child_has_run_out_of_memory() -> None:
    assert ending(1, oom=True, past=[OOM, event("die", 0.5)]) == Exit(code=1, oom=True)
    past = [killed(15), event("oom", 50), event("die", 50.5)]
    assert ending(137, oom=True, past=past) == Exit(signal=SIGKILL, oom=True)


@pytest.mark.parametrize(
    ("code", "doubtful"), [(0, False), (128, False), (137, True), (255, False)]
)
def test_the_past_is_asked_only_where_it_can_tell(code: int, doubtful: bool) -> None:
    assert is_doubtful(code) is doubtful
