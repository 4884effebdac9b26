"""Optuna says nothing in tests."""

from collections.abc import Iterator

import optuna
import pytest


@pytest.fixture(autouse=True, scope="package")
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)
