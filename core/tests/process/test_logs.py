from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap

import pytest
from longshore_core import ConfigError
from longshore_core.process.logs import parse_filter


def logged(code: str, env: str = "production", **environ: str) -> str:
    program = f"""
        import logging, structlog
        from longshore_core.process import logs
        logs.configure({env!r}, {environ!r})
        log = structlog.stdlib.get_logger("longshore_core.http_proxy")
    """
    source = textwrap.dedent(program) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, check=True)
    return done.stdout.decode()


def test_a_line_has_the_fields_shape_of_the_field() -> None:
    line = json.loads(
        logged("log.info('Request completed', sandbox_id='s', port=1, status_code=200)")
    )
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "INFO",
        "target": "longshore_core.http_proxy",
        "span": {"sandbox_id": "s", "port": 1},
        "fields": {"message": "Request completed", "status_code": 200},
    }


def test_third_parties_lines_have_the_same_shape() -> None:
    line = json.loads(logged("logging.getLogger('other').warning('%s happened', 'it')"))
    assert (line["target"], line["fields"]["message"]) == ("other", "it happened")


def test_secrets_never_get_out() -> None:
    shown = logged("log.info('x', token='hunter2', db_password='hunter2')")
    assert "hunter2" not in shown


def test_a_traceback_shows_no_variables() -> None:
    crash = """
        def connect(key):
            raise RuntimeError("refused")
        try:
            connect("hunter" + "2")
        except RuntimeError:
            log.exception("Failed")
    """
    shown = logged(textwrap.dedent(crash), env="local")
    assert "RuntimeError: refused" in shown
    assert "hunter2" not in shown


def test_a_local_environment_is_readable() -> None:
    shown = logged("log.info('Request completed', port=1)", env="local")
    assert "Request completed" in shown
    assert "port=1" in shown


def test_the_fields_targets_name_our_loggers() -> None:
    assert parse_filter("indexify_dataplane::http_proxy=debug", "RUST_LOG") == {
        "longshore_core.http_proxy": logging.DEBUG
    }


def test_a_named_logger_can_be_louder_than_the_rest() -> None:
    shown = logged("log.debug('loud')", RUST_LOG="info,indexify_dataplane::http_proxy=debug")
    assert "loud" in shown
    assert not logged("log.debug('loud')", RUST_LOG="info")


def test_our_own_variable_wins() -> None:
    assert not logged("log.info('x')", RUST_LOG="debug", LONGSHORE_LOG="error")


def test_an_unknown_level_is_an_error_with_the_nearest_match() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_filter("infos", "RUST_LOG")
    assert str(caught.value) == "RUST_LOG: no log level 'infos'; did you mean 'info'?"
