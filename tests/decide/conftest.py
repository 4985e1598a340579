"""Every test gets its own scorer over the session's one trained champion."""

import pytest

from tests.decide.lending import Till, champion


@pytest.fixture(scope="session", autouse=True)
def _trained() -> None:
    champion()


@pytest.fixture
def till() -> Till:
    return Till()
