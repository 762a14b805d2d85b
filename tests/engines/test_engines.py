"""The engines of the tests are what the tests take them for."""

from __future__ import annotations

import pytest

from tests.engines import images
from tests.engines.dockerd import Docker

SMALL = [image for image in images.IMAGES if image is not images.BASE]


@pytest.mark.parametrize("image", SMALL, ids=lambda image: image.name)
def test_an_image_is_the_same_bytes_each_time(image: images.Image) -> None:
    assert image.archive() == image.archive()


def test_python_runs_in_the_base_image(docker_engine: Docker) -> None:
    reference = docker_engine.load(images.BASE)
    script = "import json, sqlite3, ssl; print('here')"
    assert docker_engine.run("run", "--rm", reference, "python3", "-c", script) == "here"
