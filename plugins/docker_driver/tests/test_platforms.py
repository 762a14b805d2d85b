"""Images for other machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from longshore_core import ImageError
from longshore_docker.answers import Image
from longshore_docker.config import Config
from longshore_docker.platforms import refuse_unrunnable, sound_platform

IMAGE = Image(id="sha256:1", platform="linux/amd64", user="", env={})
ARM = replace(IMAGE, platform="linux/arm64/v8")


def test_an_image_for_another_machine_is_refused_and_says_what_to_do() -> None:
    with pytest.raises(ImageError) as caught:
        sound_platform("busybox", ARM, "linux/amd64", Config())
    assert str(caught.value) == (
        "image busybox is for linux/arm64/v8, and this engine runs linux/amd64: use an image for "
        "linux/amd64; or install qemu-user-static on the engine's host and set driver.platform to "
        "linux/arm64/v8"
    )


def test_only_an_image_for_the_platform_of_the_config_passes() -> None:
    config = Config(platform="linux/arm64")
    sound_platform("busybox", ARM, "linux/amd64", config)
    with pytest.raises(ImageError) as caught:
        sound_platform("busybox", IMAGE, "linux/amd64", config)
    assert str(caught.value) == (
        "image busybox is for linux/amd64, and driver.platform is linux/arm64: remove it, so that "
        "it is pulled for that, or use another image"
    )


@pytest.mark.parametrize(
    ("platform", "passes"),
    [
        (None, True),
        ("linux/amd64", True),
        ("linux/386", True),
        ("linux/arm64/v8", True),
        ("linux/s390x", False),
    ],
)
def test_a_platform_passes_that_the_host_has_an_emulator_for(
    tmp_path: Path, platform: str | None, passes: bool
) -> None:
    (tmp_path / "qemu-aarch64").touch()
    given = {"address": "/run/docker.sock", "platform": platform}
    config = Config.model_validate(given)
    if passes:
        refuse_unrunnable(config, "linux/amd64", tmp_path)
        return
    with pytest.raises(ImageError) as caught:
        refuse_unrunnable(config, "linux/amd64", tmp_path)
    assert str(caught.value) == (
        "this host runs no programs of linux/s390x (driver.platform): install qemu-user-static, "
        "or use images for linux/amd64"
    )


def test_of_the_emulators_of_another_host_nothing_is_known(tmp_path: Path) -> None:
    config = Config.model_validate({"address": "tcp://10.0.0.1:2375", "platform": "linux/s390x"})
    refuse_unrunnable(config, "linux/amd64", tmp_path)
