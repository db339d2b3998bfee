"""The main road: what was pushed is what is pulled."""

import pytest

from tests.docker_client import BARE_HOST, SHAPES, Image


@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_comes_back_byte_for_byte(docker, shape):
    image = docker("member").push("web/app", "1.0", Image(layers=[b"one" * 1000, b"two", b""]), shape=shape)
    assert docker("viewer").pull("web/app", "1.0") == (image.manifest, image.media_type)
    assert docker("viewer").pull("web/app", image.digest) == (image.manifest, image.media_type)
    assert docker("reader").tags("web/app") == ["1.0"]


def test_both_hosts_name_the_same_image(docker):
    image = docker("member", BARE_HOST).push("demo/web/team/app", "1.0")
    assert docker("member").pull("web/team/app", "1.0")[0] == image.manifest
