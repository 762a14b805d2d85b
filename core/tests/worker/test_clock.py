from __future__ import annotations

import time
from pathlib import Path

import pytest
from longshore_core import ConfigError
from longshore_core._worker.clock import steady_clock

HOUR = 3600.0


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    path = tmp_path / "boot_id"
    path.write_text("one\n")
    return path


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch):
    """Set the host's clock, by so many seconds off."""
    true = time.time
    return lambda off: monkeypatch.setattr(time, "time", lambda: true() + off)


@pytest.mark.parametrize("off", [-HOUR, HOUR])
def test_whoever_sets_the_hosts_clock_moves_no_deadline(tmp_path, boot, set_clock, off) -> None:
    before, clock = time.time(), steady_clock(tmp_path, boot)
    assert clock() == pytest.approx(before, abs=5)
    set_clock(off)
    assert clock() == pytest.approx(before, abs=5)
    # The next worker, on the deadlines that this one has kept.
    assert steady_clock(tmp_path, boot)() == pytest.approx(before, abs=5)


def test_it_goes_on_with_time(tmp_path, boot, monkeypatch) -> None:
    clock, passed = steady_clock(tmp_path, boot), time.clock_gettime
    before = clock()
    monkeypatch.setattr(time, "clock_gettime", lambda which: passed(which) + 60)
    assert clock() - before == pytest.approx(60, abs=5)


def test_after_a_boot_the_hosts_clock_is_read_again(tmp_path, boot, set_clock) -> None:
    steady_clock(tmp_path, boot)
    set_clock(HOUR)
    boot.write_text("two\n")
    assert steady_clock(tmp_path, boot)() == pytest.approx(time.time(), abs=5)


@pytest.mark.parametrize("what", ["", "{", '{"boot": "one"}', '{"boot": "one", "offset": "x"}'])
def test_what_cannot_be_read_is_written_anew(tmp_path, boot, what) -> None:
    (tmp_path / "clock.json").write_text(what)
    assert steady_clock(tmp_path, boot)() == pytest.approx(time.time(), abs=5)
    assert "offset" in (tmp_path / "clock.json").read_text()


def test_where_no_boot_can_be_told_from_another_each_worker_reads_the_clock(
    tmp_path, set_clock
) -> None:
    nowhere = tmp_path / "nowhere"
    steady_clock(tmp_path, nowhere)
    set_clock(HOUR)
    assert steady_clock(tmp_path, nowhere)() == pytest.approx(time.time(), abs=5)


def test_a_directory_that_cannot_be_written_to_is_named(tmp_path, boot) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*clock\.json"):
        steady_clock(tmp_path / "nowhere", boot)
