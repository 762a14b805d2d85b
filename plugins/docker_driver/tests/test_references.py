"""Names of images, the progress of a pull, and why it failed."""

from __future__ import annotations

import io
import tarfile

import pytest
from longshore_core import BackendError, ImageError, PullProgress, RegistryError
from longshore_docker.engine import parse_reference
from longshore_docker.images import Layers, refusal
from longshore_docker.sockets import content, ids


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("busybox", "docker.io", "busybox", "latest"),
        ("user/name:3", "docker.io", "user/name", "3"),
        ("localhost:5000/name", "localhost:5000", "localhost:5000/name", "latest"),
        ("r.example.com:443/a/b:1", "r.example.com:443", "r.example.com:443/a/b", "1"),
        ("r.example.com/a@sha256:ab", "r.example.com", "r.example.com/a", "sha256:ab"),
    ],
)
def test_a_reference_keeps_its_port_and_gets_a_tag(
    text: str, registry: str, repository: str, tag: str
) -> None:
    assert parse_reference(text) == (registry, repository, tag)


@pytest.mark.parametrize("text", ["", "UPPER", "a b", "https://r/x", "-r.example.com/x", ":tag"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ImageError, match="is no image reference"):
        parse_reference(text)


def test_progress_is_the_sum_of_the_layers() -> None:
    layers = Layers("x")
    detail = {"current": 3, "total": 10}
    assert layers.hear({"id": "a", "status": "Downloading", "progressDetail": detail})
    assert layers.hear({"id": "b", "status": "Downloading", "progressDetail": detail})
    assert layers.hear({"id": "a", "status": "Download complete"})
    # Nothing of it has come, because the first attempt failed: the engine leaves out what is zero.
    assert layers.hear({"id": "d", "status": "Downloading", "progressDetail": {"total": 10}})
    assert not layers.hear({"id": "c", "status": "Already exists"})
    assert layers.progress == PullProgress(reference="x", done_bytes=13, total_bytes=30)


@pytest.mark.parametrize(
    ("reason", "kind", "retryable"),
    [
        ("manifest for x:latest not found: manifest unknown", ImageError, False),
        ("pull access denied for x, repository does not exist", ImageError, False),
        ("no matching manifest for linux/amd64 in the manifest list entries", ImageError, False),
        ("unauthorized: authentication required", ImageError, False),
        ("dial tcp 127.0.0.1:1: connect: connection refused", RegistryError, True),
        ("net/http: request canceled (Client.Timeout exceeded)", RegistryError, True),
    ],
)
def test_a_pull_that_failed_says_whether_to_try_again(
    reason: str, kind: type[BackendError], retryable: bool
) -> None:
    failure = refusal("x", reason)
    assert (type(failure), failure.retryable) == (kind, retryable)
    assert str(failure) == f"cannot pull image x: {reason}"


ACCOUNTS = "root:x:0:0::/root:/bin/sh\nuser:x:1000:1001::/home:/bin/sh\nbroken\n"


@pytest.mark.parametrize(
    ("user", "found"),
    [
        ("", (0, 0)),
        ("1000", (1000, 1001)),
        ("1000:5", (1000, 5)),
        ("user", (1000, 1001)),
        ("user:7", (1000, 7)),
        ("4242", (4242, 0)),
    ],
)
def test_a_user_is_found_by_number_or_by_name(user: str, found: tuple[int, int]) -> None:
    assert ids(user, ACCOUNTS) == found


def test_a_user_of_whom_the_image_knows_nothing_is_refused() -> None:
    with pytest.raises(BackendError, match="user 'nobody', of whom its /etc/passwd knows nothing"):
        ids("nobody", ACCOUNTS)


@pytest.mark.parametrize(
    ("user", "line", "value"),
    [
        ("app", "app:x:abc:0::/:/bin/sh", "abc"),
        ("app", "app:x:1000:staff::/:/bin/sh", "staff"),
        ("app", "app:x:-1:0::/:/bin/sh", "-1"),
        ("app", "app:x::0::/:/bin/sh", ""),
        ("99999999999", "", "99999999999"),
        ("4294967295", "", "4294967295"),
        ("0:99999999999", "", "99999999999"),
        ("\u0662", "", "\u0662"),
        ("9" * 5000, "", "9" * 20 + "..."),
    ],
)
def test_a_user_without_a_number_that_there_can_be_is_refused(
    user: str, line: str, value: str
) -> None:
    with pytest.raises(ImageError) as caught:
        ids(user, f"root:x:1:0::/root:/bin/sh\n{line}\n")
    assert str(caught.value) == (
        f"the image runs as user {user!r}, of whom {value!r} is no number from 0 to 2147483647"
    )


def test_a_list_of_users_that_is_no_file_is_refused() -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        link = tarfile.TarInfo("passwd")
        link.type, link.linkname = tarfile.SYMTYPE, "/nix/store/passwd"
        tar.addfile(link)
    with pytest.raises(ImageError) as caught:
        content(archive.getvalue())
    assert str(caught.value) == (
        "the image's /etc/passwd is no plain file; name its user by number"
    )
