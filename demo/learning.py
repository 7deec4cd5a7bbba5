"""Learn from the history: apply, backfill, materialize, train, and compare with a frozen baseline."""

import contextlib
import io
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from demo.errors import DemoStopped
from demo.history import Story
from demo.places import DEFAULT_FOLDER, ROOT, Places
from demo.screen import Advance, Step
from fraud.features import SERVICE
from fraud.windows import DAY
from retraining.judging import champion_scores
from retraining.label_facts import lake_facts
from retraining.limits import GateLimits
from retraining.registry import Registry
from retraining.weekly import Builder, WeekReport, run_week
from training.compromised import unblocked
from training.dataset import TrainingSet
from training.evaluation import Evaluation, FalsePositiveCut, compare, evaluate
from training.fit import BASELINE_FEATURES, BASELINE_RECIPE, Rows, fit_model
from training.labels import read_labels, read_truth
from training.plots import draw_comparison

WEEK_MS: Final = 7 * DAY
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Caught:
    """How many frauds there are of one type, and which share of them is caught.

    Parameters
    ----------
    frauds
        How many there are.
    theirs, ours
        Shares caught by the baseline and by the champion, each at its own threshold for the compared catch of all
        frauds: the same catch overall, at very different false positives.
    ours_at_their_alarms
        Share caught by the champion at the threshold that raises as many false positives as the baseline does.
    """

    frauds: int
    theirs: float
    ours: float
    ours_at_their_alarms: float


@dataclass(frozen=True)
class Compared:
    """Champion and frozen baseline on the same unseen days, judged by the truth.

    ``recall_at_their_alarms`` is the share of all frauds that the champion catches with as many false positives as the
    baseline raises at the compared catch.
    """

    baseline: Evaluation
    ours: Evaluation
    cut: FalsePositiveCut
    by_type: Mapping[str, Caught]
    recall_at_their_alarms: float
    picture: Path
    first_day: str
    last_day: str


def feature_environment(places: Places, redis_port: int) -> dict[str, str]:
    """Return the variables by which the feature repository finds the demo's data."""
    return {
        "FRAUD_LAKE": str(places.lake),
        "TOLLGATE_REDIS_HOST": "127.0.0.1",
        "TOLLGATE_REDIS_PORT": str(redis_port),
    }


def begin_apply(places: Places, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start ``feast apply`` as a person would type it; it needs no data, so it runs beside the first steps."""
    feast = Path(sys.executable).with_name("feast")
    config = feast_config(places)
    with (places.logs / "feast-apply.log").open("wb") as output:
        return subprocess.Popen(  # noqa: S603  # Feast's own command
            [feast, "-c", "feature_repo", "-f", config, "apply", "--skip-source-validation"],
            cwd=ROOT,
            env={**os.environ, **environ},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def open_feature_store(apply: subprocess.Popen[bytes], environ: Mapping[str, str], places: Places) -> Any:
    """Return Feast's store of the repository once it is applied.

    Raises
    ------
    DemoStopped
        ``feast apply`` failed.
    """
    os.environ.update(environ)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger("feast").setLevel(logging.ERROR)  # it warns about a setting that does work with a file registry
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="feast")
    from feast import FeatureStore

    if apply.wait():
        said = (places.logs / "feast-apply.log").read_text(errors="replace").strip().splitlines()
        raise DemoStopped(f"feast apply failed: {said[-1] if said else 'it said nothing'}")
    return FeatureStore(repo_path=str(ROOT / "feature_repo"), fs_yaml_file=feast_config(places))


def feast_config(places: Places) -> Path:
    """Return Feast's configuration: the repository's own, or its copy for a demo in another folder."""
    own = ROOT / "feature_repo" / "feature_store.local.yaml"
    if places.folder == DEFAULT_FOLDER:
        return own
    copy = places.folder / "feature_store.yaml"
    if not copy.exists():
        copy.write_text(own.read_text().replace("../build/demo/registry.db", str(places.registry)))
    return copy


def materialize(store: Any, story: Story, step: Step) -> None:
    """Fill the online store from the history, as ``feast materialize`` does, view by view so that a bar can move."""
    end = datetime.fromtimestamp(story.live_start_ms / 1000, UTC)
    start = datetime.fromtimestamp((story.live_start_ms - 400 * DAY) / 1000, UTC)
    views = sorted(view.name for view in store.list_feature_views() if view.online)
    for done, view in enumerate(views):
        step.say(view)
        step.advance(done, len(views))
        with contextlib.redirect_stdout(io.StringIO()):
            store.materialize(start, end, feature_views=[view])


def train(
    build: Builder,
    registry: Registry,
    story: Story,
    read_plan: Mapping[str, Any],
    limits: GateLimits,
    lake: Path,
    *,
    as_of_ms: int,
    progress: Advance,
) -> WeekReport:
    """Run one weekly iteration of the product at a time of the story; the bar counts the trees of its largest fit.

    A story asks twice about one week, so each is asked again.
    """
    return run_week(
        build,
        registry,
        as_of_ms=as_of_ms,
        plan=story.plan,
        read_plan=read_plan,
        root=ROOT,
        limits=limits,
        facts=lake_facts(lake, story.plan),
        again=True,
        progress=progress,
    )


def compiled_plan(store: Any) -> dict[str, Any]:
    """Return how the scorer reads the online store, as plain data."""
    from stores.compiling import compile_plan
    from stores.plan import plan_data

    return plan_data(compile_plan(store, SERVICE))


def compare_with_baseline(
    rows: TrainingSet, registry: Registry, story: Story, places: Places, *, champion_at_ms: int
) -> Compared:
    """Fit the frozen baseline on the champion's own rows and compare both on the days that followed.

    Parameters
    ----------
    rows
        From the champion's first training day to the live hour.
    champion_at_ms
        When the champion was trained: days from then on are unseen by both.
    """
    start, validation_from, test_from, _ = story.plan.edges(champion_at_ms)
    truth = truth_of(rows, places.lake)
    columns = rows.columns(BASELINE_FEATURES)
    train_rows, validation = rows.between(start, validation_from), rows.between(validation_from, test_from)
    baseline = fit_model(
        Rows(rows.matrix[train_rows][:, columns], rows.is_fraud[train_rows]),
        Rows(rows.matrix[validation][:, columns], rows.is_fraud[validation]),
        BASELINE_FEATURES,
        seed=story.plan.seed,
        recipe=BASELINE_RECIPE,
    )
    unseen = _unseen_rows(rows, story, places.lake)
    champion = registry.champion()
    if champion is None:
        raise DemoStopped("the registry has no champion to compare")
    is_fraud = truth[0][unseen]
    ours, theirs = champion_scores(champion, rows, unseen), baseline.scores(rows.matrix[unseen][:, columns])
    judged = [
        evaluate(
            scores,
            is_fraud,
            rows.amount_minor[unseen],
            rows.card[unseen],
            rows.event_time_ms[unseen],
            recall_targets=(story.recall,),
            k=100,
            seed=0,
            resamples=400,
        )
        for scores in (theirs, ours)
    ]
    time = rows.event_time_ms[unseen]
    flagged = _flagged(theirs, ours, is_fraud, judged)
    cut = compare(theirs, ours, is_fraud, time, recall=story.recall, seed=0, resamples=400)
    picture = places.folder / "comparison.png"
    draw_comparison(
        picture,
        baseline=judged[0],
        ours=judged[1],
        cuts=[cut],
        baseline_scores=theirs,
        our_scores=ours,
        is_fraud=is_fraud,
        title="Champion against the frozen baseline",
    )
    return Compared(
        judged[0],
        judged[1],
        cut,
        _caught_by_type(flagged, truth[1][unseen]),
        float(flagged[2][is_fraud].mean()),
        picture,
        _day(int(time[0])),
        _day(int(time[-1])),
    )


def _unseen_rows(rows: TrainingSet, story: Story, lake: Path) -> npt.NDArray[np.int64]:
    """Return the rows after the champion's time whose card was not yet known as compromised: such a card is blocked."""
    span = rows.between(story.live_start_ms - story.evaluate_days * DAY, story.live_start_ms)
    return np.arange(span.start, span.stop)[unblocked(rows, read_labels(lake))[span]]


def truth_of(rows: TrainingSet, lake: Path) -> tuple[BoolArray, npt.NDArray[np.object_]]:
    """Return, row by row, whether a transaction truly is fraud and of which type (empty text when it is not)."""
    truth = read_truth(lake)
    if truth is None:
        raise DemoStopped(f"{lake} has no truth.parquet to compare with")
    place = pc.index_in(rows.transaction_id, truth["transaction_id"].combine_chunks())
    found = truth.take(place)
    types = pc.fill_null(found["fraud_type"].cast(pa.string()), "")
    return found["is_fraud"].to_numpy(), np.asarray(types.to_numpy(zero_copy_only=False), object)


def _flagged(
    theirs: FloatArray, ours: FloatArray, is_fraud: BoolArray, judged: Sequence[Evaluation]
) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Return what the baseline and the champion flag at the compared catch, and the champion at the baseline's alarms.

    The third flags no more legitimate payments than the first, and as many of them but for ties.
    """
    baseline, champion = (
        scores >= found.at_recall[0].threshold for scores, found in zip((theirs, ours), judged, strict=True)
    )
    alarms = int((baseline & ~is_fraud).sum())
    of_legitimate = np.sort(ours[~is_fraud])[::-1]
    return baseline, champion, ours > of_legitimate[min(alarms, len(of_legitimate) - 1)]


def _caught_by_type(
    flagged: tuple[BoolArray, BoolArray, BoolArray], kind: npt.NDArray[np.object_]
) -> dict[str, Caught]:
    """Return, per fraud type, how many there are and which share each model catches."""
    return {
        name: Caught(int(of.sum()), *(float(one[of].mean()) for one in flagged))
        for name in sorted(set(kind) - {""})
        if (of := np.asarray(kind == name)).any()
    }


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat()
