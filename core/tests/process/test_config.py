from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longshore_core import ConfigError
from longshore_core._settings import WorkerSettings
from longshore_core.process.config import load, redact, validate

FULL = """
env: production
executor_id: worker-node-1
server_addr: 'http://indexify.example.com:8901'
tls:
  enabled: false
  ca_cert_path: '/etc/certs/ca.pem'
  client_cert_path: '/etc/certs/client.pem'
  client_key_path: '/etc/certs/client-key.pem'
  domain_name: 'indexify.example.com'
telemetry:
  tracing_exporter: otlp
  endpoint: 'http://otel-collector:4317'
  instance_id: 'dataplane-prod-worker-1'
driver:
  type: docker
http_proxy:
  port: 8095
  listen_addr: '0.0.0.0'
  advertise_address: 'worker-1.example.com:8095'
"""


def read(tmp_path: Path, text: str, **environ: str) -> WorkerSettings:
    file = tmp_path / "worker.yaml"
    file.write_text(text, encoding="utf-8")
    return load(WorkerSettings, file, environ)


def complaint(tmp_path: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, **environ)
    return str(caught.value)


def test_without_a_file_the_defaults_are_complete() -> None:
    settings = load(WorkerSettings, None, {})
    assert settings.server_addr == "http://localhost:8901"
    assert settings.sandboxes.type == "fork_exec"
    assert (settings.http_proxy.port, settings.monitoring.port) == (8095, 8100)


def test_the_complete_reference_of_the_field_is_read(tmp_path: Path) -> None:
    settings = read(tmp_path, FULL)
    assert settings.executor_id == "worker-node-1"
    assert settings.sandboxes.type == "docker"
    assert settings.http_proxy.advertised == "worker-1.example.com:8095"


def test_an_unknown_key_is_an_error_with_the_nearest_match(tmp_path: Path) -> None:
    assert complaint(tmp_path, "http_proxy: {prot: 1}") == (
        "http_proxy.prot: Extra inputs are not permitted; did you mean 'port'?"
    )


def test_every_complaint_is_told_at_once(tmp_path: Path) -> None:
    lines = complaint(tmp_path, "monitoring: {port: 99999}\nexecutor: x").splitlines()
    assert lines == [
        "monitoring.port: Input should be less than or equal to 65535 (got 99999)",
        "executor: Extra inputs are not permitted; did you mean 'executor_id'?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "worker.yaml:1:6: "),
        ("env: a\nenv: b", "worker.yaml:2:1: found duplicate key"),
        ("- a\n- b", "worker.yaml: expected a mapping of keys, found a list"),
        ("just text", "worker.yaml: expected a mapping of keys, found a text"),
    ],
)
def test_malformed_yaml_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert message in complaint(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*absent\.yaml: No such file"):
        load(WorkerSettings, tmp_path / "absent.yaml", {})


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_bytes(b"env: \xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(WorkerSettings, file, {})


def test_variables_are_replaced_and_defaults_used(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        "executor_id: ${NAME}-${ZONE:-z1}\nhttp_proxy: {port: '${PORT}'}",
        NAME="n1",
        PORT="9000",
    )
    assert settings.executor_id == "n1-z1"
    assert settings.http_proxy.port == 9000


def test_all_missing_variables_are_listed_at_once(tmp_path: Path) -> None:
    text = "executor_id: ${ONE}\nlabels: {a: '${TWO}', b: '${ONE}'}"
    assert complaint(tmp_path, text) == (
        "environment variables are not set:"
        " ONE (at executor_id), TWO (at labels.a), ONE (at labels.b)"
    )


def test_a_lone_dollar_is_literal(tmp_path: Path) -> None:
    text = "labels: {a: 'robot$account', b: '$HOME', c: '$$', d: '${', e: '${1}'}"
    assert read(tmp_path, text, HOME="/root").labels == {
        "a": "robot$account",
        "b": "$HOME",
        "c": "$$",
        "d": "${",
        "e": "${1}",
    }


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00")))
def test_a_variables_value_never_changes_the_document(value: str) -> None:
    from longshore_core.process.config import _interpolate

    document = {"a": "x${V}y", "b": ["${V}"]}
    assert _interpolate(document, {"V": value}) == {"a": f"x{value}y", "b": [value]}


def test_a_resolved_variable_is_never_quoted_in_a_complaint(tmp_path: Path) -> None:
    message = complaint(tmp_path, "monitoring: {port: '${SECRET_PORT}'}", SECRET_PORT="hunter2")
    assert "hunter2" not in message
    assert "${SECRET_PORT}" in message


def test_secrets_are_redacted(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        "snapshot_registry: {url: 'r:5000', repository: x, username: u, password: hunter2}\n"
        "driver: {type: docker, registry_token: hunter2}",
    )
    shown = repr(redact(settings))
    assert "hunter2" not in shown
    assert "hunter2" not in repr(settings.snapshot_registry)


def test_one_driver_key_sets_both_and_a_contradiction_is_refused(tmp_path: Path) -> None:
    message = complaint(tmp_path, "driver: {type: docker}\nsandbox_driver: {type: podman}")
    assert message == "driver and sandbox_driver contradict each other; keep one of them"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server_addr: localhost:8901", "server_addr: must include a scheme"),
        ("tls: {enabled: true, client_cert_path: /c}", "tls: mTLS needs both"),
        ("function_allowlist: ['a:b']", "function_allowlist: 'a:b' is not namespace:"),
    ],
)
def test_values_that_make_no_sense_are_refused(tmp_path: Path, text: str, message: str) -> None:
    assert complaint(tmp_path, text).startswith(message)


def test_an_unquoted_null_names_the_null_driver(tmp_path: Path) -> None:
    assert read(tmp_path, "driver: {type: null}").sandboxes.type == "null"


@pytest.mark.parametrize(
    "text",
    ["day: 2001-13-45", "a: &a [*a]", "a: &a {b: *a}", "a: " + "[" * 3000],
    ids=["no date", "in itself", "map in itself", "deep"],
)
def test_what_yaml_lets_through_and_cannot_be_used_names_the_file(tmp_path: Path, text) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml: "):
        load(WorkerSettings, file, {})


def test_secrets_are_not_shown_however_deep_they_lie() -> None:
    settings = WorkerSettings.model_validate({
        "secrets": {
            "type": "vault",
            "auth": {"token": "hush", 1: "one"},
            "hosts": [{"api_key": "hush"}],
            "url": "https://user:hush@vault.example.com/v1",
        },
        "snapshot_registry": {"url": "r", "repository": "p", "username": "u", "password": "hush"},
    })  # fmt: skip
    shown = redact(settings)
    assert "hush" not in repr(shown)
    assert shown["secrets"]["url"] == "https://[redacted]@vault.example.com/v1"


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1])
def test_a_time_that_never_comes_cannot_be_stored_and_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=r"^stop_grace_secs: "):
        validate(WorkerSettings, {"stop_grace_secs": value})
