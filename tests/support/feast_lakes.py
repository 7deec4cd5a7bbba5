"""A small lake under one Feast store, whose content tests change between questions."""

import shutil
from pathlib import Path
from typing import Any

from fraud.transaction import Transaction
from tests.support.lakes import DAY_MS, START_MS, FraudReport, random_payments, some_reports, write_lake
from training.dataset import TrainingSet, build_training_set
from training.feast_store import open_lake_store
from training.profiles import write_profiles

REPO = Path(__file__).parents[2] / "feature_repo"
PAYMENTS = random_payments(41, 500)
REPORTS = some_reports(PAYMENTS, 41)
MIDDLE_MS = PAYMENTS[350].event_time_ms // DAY_MS * DAY_MS


def nothing(_done: int, _total: int) -> None:
    """Show no progress."""


class FeastLake:
    """A lake whose content is changed between questions, under one Feast store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fill(PAYMENTS, REPORTS)
        self.store: Any = open_lake_store(REPO, folder)

    def fill(
        self, payments: list[Transaction], reports: list[FraudReport], delays_ms: dict[str, int] | None = None
    ) -> None:
        for name in ("transactions", "profiles"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        write_lake(self.folder, payments, reports, delays_ms)
        write_profiles(self.folder, progress=nothing)

    def rows(self, end_ms: int = START_MS, as_of_ms: int = START_MS) -> TrainingSet:
        return build_training_set(
            self.store, self.folder, start_ms=0, end_ms=end_ms, as_of_ms=as_of_ms, progress=nothing
        )
