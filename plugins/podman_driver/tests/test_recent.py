"""What was just told is told once more, and only for a moment."""

from __future__ import annotations

import anyio
import pytest
from longshore_podman.recent import SECONDS, Recent


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [100.0]
    monkeypatch.setattr(anyio, "current_time", lambda: time[0])
    return time


def test_it_is_told_once(now: list[float]) -> None:
    recent = Recent[str]()
    recent.keep("a", "one")
    assert (recent.take("a"), recent.take("a"), recent.take("b")) == ("one", None, None)


def test_it_is_told_only_for_a_moment(now: list[float]) -> None:
    recent = Recent[str]()
    recent.keep("a", "one")
    now[0] += SECONDS
    assert recent.take("a") is None


def test_what_nobody_comes_for_does_not_stay(now: list[float]) -> None:
    recent = Recent[str]()
    for number in range(50):
        recent.keep(str(number), "thing")
        now[0] += SECONDS / 4
    assert len(recent._kept) <= 4
