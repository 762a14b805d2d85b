"""Ends told apart: codes, signals, faults, memory."""

from __future__ import annotations

from signal import SIGKILL, SIGSEGV, SIGTERM

import pytest
from longshore_core import Exit
from longshore_docker.endings import ending, is_doubtful


def killed(signal: int) -> dict[str, object]:
    return {"Action": "kill", "Actor": {"Attributes": {"signal": str(signal)}}}


OOM = {"Action": "oom", "Actor": {"Attributes": {}}}


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


@pytest.mark.parametrize(
    ("code", "doubtful"), [(0, False), (128, False), (137, True), (255, False)]
)
def test_the_past_is_asked_only_where_it_can_tell(code: int, doubtful: bool) -> None:
    assert is_doubtful(code) is doubtful
