from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from longshore_core import ConfigError
from longshore_core._worker.identity import executor_id, locked_state_dir


@contextmanager
def refused(place: Path) -> Generator[None]:
    with locked_state_dir(place):
        pytest.fail("it was let in")
    yield


def test_an_id_is_generated_once_and_kept(tmp_path: Path) -> None:
    first = executor_id(None, tmp_path)
    assert executor_id(None, tmp_path) == first
    assert executor_id("named", tmp_path) == "named"
    assert executor_id(None, tmp_path) == first


def test_an_id_that_cannot_be_read_is_no_new_one(tmp_path: Path) -> None:
    (tmp_path / "executor_id").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"^executor_id: cannot use .*/executor_id"):
        executor_id(None, tmp_path)


def test_a_state_directory_is_made_for_this_user_alone(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b"
    with locked_state_dir(place):
        assert place.stat().st_mode & 0o777 == 0o700


def test_two_workers_do_not_share_one(tmp_path: Path) -> None:
    with locked_state_dir(tmp_path), pytest.raises(ConfigError) as caught, refused(tmp_path):
        pass
    assert str(caught.value) == (
        f"state_dir: {tmp_path} is held by another worker; stop it or choose another directory"
    )
    with locked_state_dir(tmp_path):
        pass


def test_a_directory_that_everybody_uses_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(ConfigError, match="others can write to") as caught, refused(tmp_path):
        pass
    assert caught.value.path == "state_dir"
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_a_file_in_its_place_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match="choose a directory that is writable"), refused(file):
        pass
