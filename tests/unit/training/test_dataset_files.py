"""A built set vouches for itself, gives the same bytes again, and is not there when it cannot be vouched for."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fraud.features import FEATURE_NAMES
from stores.as_known import AsKnown
from stores.log import REACH_MS
from tests.support.feast_lakes import MIDDLE_MS, PAYMENTS, REPORTS, FeastLake, nothing
from tests.support.lakes import DAY_MS
from training import dataset_files
from training.dataset import read_log
from training.dataset_files import Dataset, Shown, build_dataset, data_digest
from training.dataset_request import DatasetRequest
from training.errors import InvalidSplit, LeakingTrainingSet, UnreadableSource, UnwritableOutput
from training.frames import read_training_set, write_training_set
from training.label_ages import maturity_of
from training.offline_vectors import FloatArray, history_vectors
from training.sampling import Sampling
from training.transaction_log import day_text

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
ROOT = Path(__file__).parents[3]
START_MS = MIDDLE_MS - 9 * DAY_MS
REQUEST = DatasetRequest(START_MS, MIDDLE_MS, label_delay_ms=4 * DAY_MS)
SHOWN = Shown(nothing, nothing)
Build = Callable[..., Dataset]


def midnight(day: str) -> int:
    return int(np.datetime64(day, "ms").astype(np.int64))


SAMPLED = replace(REQUEST, sampling=Sampling(0.5), as_known=AsKnown(2_000))


@pytest.fixture(scope="module")
def sets(feast_lake: FeastLake, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """Two sets of the usual lake, built once for the tests that only look."""
    feast_lake.fill(PAYMENTS, REPORTS)
    folder = tmp_path_factory.mktemp("sets")
    asked = {"whole": REQUEST, "part": SAMPLED}
    return {
        name: build_dataset(feast_lake.store, feast_lake.folder, request, folder / name, root=ROOT, shown=SHOWN)
        for name, request in asked.items()
    }


@pytest.fixture
def build(filled: FeastLake, tmp_path: Path) -> Build:
    def built(name: str, request: DatasetRequest = REQUEST, store: Any = None) -> Dataset:
        return build_dataset(store or filled.store, filled.folder, request, tmp_path / name, root=ROOT, shown=SHOWN)

    return built


def test_the_same_question_gives_the_same_bytes(build: Build, sets: dict[str, Dataset]) -> None:
    one, other = sets["part"], build("other", SAMPLED)
    assert sorted(path.name for path in one.folder.iterdir()) == ["card.html", "manifest.json", "rows.parquet"]
    for path in one.folder.iterdir():
        assert path.read_bytes() == (other.folder / path.name).read_bytes()


def test_the_manifest_counts_what_is_there(sets: dict[str, Dataset], filled: FeastLake) -> None:
    folder = sets["whole"].folder
    manifest = json.loads((folder / "manifest.json").read_text())
    table = pq.read_table(folder / "rows.parquet")
    inside = {p.transaction_id for p in PAYMENTS if START_MS <= p.event_time_ms < MIDDLE_MS}
    frauds = {r.transaction_id for r in REPORTS if r.known_ms <= REQUEST.labels_at_ms} & inside
    assert manifest["rows"] == manifest["rows_in_span"] == table.num_rows == len(inside)
    assert manifest["frauds"] == len(frauds) == pc.sum(table["is_fraud"]).as_py()
    assert manifest["immature_rows_left_out"] == manifest["sampling"]["legitimate_rows_left_out"] == 0
    assert "weight" not in table.column_names
    assert [feature["name"] for feature in manifest["features"]] == list(FEATURE_NAMES)
    for feature in manifest["features"]:
        assert feature["missing"] == pytest.approx(table[feature["name"]].null_count / len(inside), abs=1e-6)
    audit = manifest["leak_audit"]
    assert (audit["passed"], audit["leaks"], audit["rows_mismatched"]) == (True, [], 0)
    assert audit["rows_compared"] == len(inside)
    assert audit["probes"] > 0
    assert all(audit["changes"][kind] > 0 for kind in ("future", "same time", "late arrival", "own"))
    days = {"first_day": day_text(START_MS), "last_day": day_text(MIDDLE_MS - DAY_MS), "days_without_rows": []}
    assert manifest["days"] == days
    assert f"Every day from {days['first_day']} to {days['last_day']} has" in (folder / "card.html").read_text()
    assert set(manifest["digests"]) == {"rows", "data", "code", "features"}
    assert manifest["digests"]["data"] == data_digest(filled.folder, START_MS, MIDDLE_MS)


def test_the_data_digest_sees_labels_profiles_and_the_days_that_windows_reach(tmp_path: Path) -> None:
    def day(back: int) -> str:
        return f"transactions/dt={day_text(MIDDLE_MS - back * DAY_MS)}/part-0.parquet"

    reach = REACH_MS // DAY_MS + 2
    seen = (day(1), day(20), day(reach - 1), "labels.parquet", "profiles/card/part-0.parquet")
    for name in (*seen, day(0), day(reach + 1)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"as it was")
    digests = [data_digest(tmp_path, MIDDLE_MS - DAY_MS, MIDDLE_MS)]
    for name in (day(0), day(reach + 1)):
        (tmp_path / name).write_bytes(b"changed")
        assert data_digest(tmp_path, MIDDLE_MS - DAY_MS, MIDDLE_MS) == digests[0]
    for name in seen:
        (tmp_path / name).write_bytes(b"changed")
        digests.append(data_digest(tmp_path, MIDDLE_MS - DAY_MS, MIDDLE_MS))
    assert len(set(digests)) == 1 + len(seen)


def test_a_sampled_set_keeps_every_fraud_and_says_what_each_row_stands_for(sets: dict[str, Dataset]) -> None:
    whole, part = sets["whole"], sets["part"]
    assert part.rows.is_fraud.sum() == whole.rows.is_fraud.sum()
    assert part.rows.weights is not None
    assert set(part.rows.weights[~part.rows.is_fraud].tolist()) == {2.0}
    assert part.manifest["rows"] + part.manifest["sampling"]["legitimate_rows_left_out"] == whole.manifest["rows"]
    place = pc.index_in(part.rows.transaction_id, whole.rows.transaction_id).to_numpy()
    assert (np.diff(place) > 0).all()
    assert part.rows.card.tolist() == whole.rows.card[place].tolist()
    expected = part.manifest["frauds"] / float(part.rows.weights.sum())
    assert part.manifest["class_balance"]["weighted_fraud_share"] == pytest.approx(expected)


def test_a_set_reads_back_bit_for_bit(sets: dict[str, Dataset], tmp_path: Path) -> None:
    for name, built in sets.items():
        found = read_training_set(built.folder)
        assert found.matrix.tobytes() == built.rows.matrix.tobytes()
        assert write_training_set(found, tmp_path / f"{name}.parquet") == built.manifest["digests"]["rows"]
        assert (found.as_of_ms, found.features) == (built.rows.as_of_ms, built.rows.features)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(UnreadableSource, match=r"x\.parquet is no training set: transaction_id is not there"):
        read_training_set(tmp_path / "x.parquet")


def test_rows_too_young_for_a_label_are_left_out_and_counted(build: Build) -> None:
    as_of_ms = MIDDLE_MS + DAY_MS
    built = build("set", replace(REQUEST, as_of_ms=as_of_ms))
    old = [p for p in PAYMENTS if START_MS <= p.event_time_ms <= as_of_ms - 4 * DAY_MS]
    inside = [p for p in PAYMENTS if START_MS <= p.event_time_ms < MIDDLE_MS]
    assert built.manifest["rows"] == len(old) < len(inside)
    assert built.manifest["immature_rows_left_out"] == len(inside) - len(old)
    with pytest.raises(InvalidSplit, match=r"no row from 2025-.* is 4d old at 2025-"):
        replace(REQUEST, as_of_ms=START_MS + 3 * DAY_MS)


def test_a_span_that_the_log_does_not_have_is_refused_with_the_days_it_has(build: Build, filled: FeastLake) -> None:
    days = sorted(path.name.removeprefix("dt=") for path in (filled.folder / "transactions").iterdir())
    told = rf"is not all in the log, which has {days[0]} to {days[-1]}: ask for days that it has"
    whole = replace(REQUEST, start_ms=midnight(days[0]), end_ms=midnight(days[-1]) + DAY_MS)
    for beyond in (replace(whole, start_ms=whole.start_ms - DAY_MS), replace(whole, end_ms=whole.end_ms + DAY_MS)):
        with pytest.raises(InvalidSplit, match=told):
            build("set", beyond)
    assert build("set", whole).manifest["rows"] == len(PAYMENTS)


def test_days_without_a_payment_stand_in_manifest_and_card(build: Build, filled: FeastLake) -> None:
    empty = [day_text(MIDDLE_MS - back * DAY_MS) for back in (5, 3)]
    filled.fill([p for p in PAYMENTS if day_text(p.event_time_ms) not in empty], [])
    built = build("set")
    assert built.manifest["days"] == {
        "first_day": day_text(START_MS),
        "last_day": day_text(MIDDLE_MS - DAY_MS),
        "days_without_rows": empty,
    }
    assert f"2 days without a payment: {empty[0]}, {empty[1]}." in (built.folder / "card.html").read_text()


def test_as_known_rows_do_not_see_what_came_late(build: Build, filled: FeastLake, sets: dict[str, Dataset]) -> None:
    late = {p.transaction_id: 3 * DAY_MS for p in PAYMENTS[::3]}
    filled.fill(PAYMENTS, REPORTS, late)
    happened, known = sets["whole"], build("known", replace(REQUEST, as_known=AsKnown(2_000)))
    column = known.rows.columns(("card_transaction_count_24h",))
    assert (known.rows.matrix[:, column] <= happened.rows.matrix[:, column]).all()
    assert (known.rows.matrix[:, column] < happened.rows.matrix[:, column]).any()
    assert known.manifest["leak_audit"]["changes"]["unknown"] > 0
    assert (known.manifest["request"]["as_known"], known.manifest["request"]["lag_ms"]) == (True, 2_000)
    rows = read_log(filled.folder, START_MS, MIDDLE_MS)
    expected = history_vectors(filled.folder, rows, AsKnown(2_000)).astype(np.float32)
    assert known.rows.matrix.tobytes() == expected.tobytes()


class TomorrowsStore:
    """A Feast store whose answer was spoilt: one feature holds the row's own amount."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def get_feature_service(self, name: str) -> Any:
        return self._store.get_feature_service(name)

    def get_historical_features(self, **asked: Any) -> Any:
        job = self._store.get_historical_features(**asked)
        table = job.to_arrow()
        place = table.schema.get_field_index("card_amount_max_24h")
        spoilt = table.set_column(place, "card_amount_max_24h", table["amount_minor"])
        return type("Job", (), {"to_arrow": lambda _self: spoilt})()


def test_a_path_that_differs_from_the_audited_one_leaves_nothing(
    build: Build, filled: FeastLake, tmp_path: Path
) -> None:
    with pytest.raises(LeakingTrainingSet, match=r"\d+ of \d+ rows differ from what the audited path says"):
        build("set", REQUEST, TomorrowsStore(filled.store))
    assert not list(tmp_path.glob("set*"))


def test_a_leak_is_named_and_leaves_nothing(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaking(lake: Path, rows: pa.Table, as_known: AsKnown | None = None) -> FloatArray:
        found = history_vectors(lake, rows, as_known)
        log = pq.read_table(lake / "transactions", partitioning=None).to_pandas()
        last = log.groupby("card_id")["amount_minor"].max()
        found[:, FEATURE_NAMES.index("card_amount_max_30d")] = last.reindex(rows["card_id"].to_pylist()).to_numpy()
        return found

    monkeypatch.setattr(dataset_files, "history_vectors", leaking)
    monkeypatch.setattr(dataset_files, "_COMPARED", 0)
    with pytest.raises(
        LeakingTrainingSet, match=r"card_amount_max_30d of transaction t41-\d+ changes with what lies in"
    ):
        build("set")
    assert not list(tmp_path.glob("set*"))


def test_an_existing_folder_is_never_written_to(build: Build, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "kept.txt").write_text("mine")
    with pytest.raises(UnwritableOutput, match="exists already"):
        build("set")
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["kept.txt"]


def test_maturity_is_told_by_age(sets: dict[str, Dataset], filled: FeastLake) -> None:
    built = sets["whole"]
    settled = maturity_of(built.rows, filled.folder)
    times = {p.transaction_id: p.event_time_ms for p in PAYMENTS}
    inside = set(built.rows.transaction_id.to_pylist())
    ages = sorted(
        (r.known_ms - times[r.transaction_id]) / DAY_MS
        for r in REPORTS
        if r.transaction_id in inside and r.known_ms <= built.rows.as_of_ms
    )
    assert settled.age_days.tolist() == pytest.approx(ages)
    assert settled.known_by(5) == pytest.approx(sum(age <= 5 for age in ages) / len(ages))
    assert settled.sources["chargeback"] >= len(ages)
    assert built.manifest["label_maturity"]["known_by_days"]["7"] == settled.known_by(7)


def test_the_data_card_stands_alone_and_holds_no_row(sets: dict[str, Dataset]) -> None:
    built = sets["part"]
    page = (built.folder / "card.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page
    assert f"{built.manifest['rows']:,} payments with {len(FEATURE_NAMES)} features" in page
    assert "only what had arrived 2s before its time" in page
    assert all(digest in page for digest in built.manifest["digests"].values())
    assert not any(f">{name}<" in page for name in built.rows.transaction_id.to_pylist())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"end_ms": START_MS}, "is not before end"),
        (
            {"service": "fraud_score_v9"},
            "service 'fraud_score_v9' has no feature contract here; there is fraud_score_v1",
        ),
    ],
)
def test_a_question_that_no_row_answers_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSplit, match=said):
        replace(REQUEST, **change)
