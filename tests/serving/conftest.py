from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from newsie import Classifier
from tests.serving.live import Live, live


@pytest.fixture(scope="session")
def served(tiny_classifier: Classifier) -> Iterator[Live]:
    """A server of the tiny student, with the settings that it has by itself."""
    with live(tiny_classifier) as server:
        yield server


@pytest.fixture
def client(served: Live) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client
