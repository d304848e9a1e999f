from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.image_host import ImageHost, serving_images


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageHost]:
    with serving_images(tmp_path_factory.mktemp("host")) as host:
        yield host
