"""One Feast store for all tests of the room: applying a repository takes seconds."""

import warnings

import pytest

from tests.support.feast_lakes import PAYMENTS, REPORTS, FeastLake


@pytest.fixture(scope="session")
def feast_lake(tmp_path_factory: pytest.TempPathFactory) -> FeastLake:
    """A lake on which the feature repository was applied."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return FeastLake(tmp_path_factory.mktemp("dataset") / "lake")


@pytest.fixture
def filled(feast_lake: FeastLake) -> FeastLake:
    """The same lake with its usual content."""
    feast_lake.fill(PAYMENTS, REPORTS)
    return feast_lake
