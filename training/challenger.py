"""From a training set to a challenger: fit, calibrate, choose thresholds, pack; the spans of days it is done on.

The same rows, plan and time give the same bundle, byte for byte. Whether it may serve is not decided here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fraud.policy import Policy
from fraud.tiers import Tier
from fraud.windows import DAY
from training.bundling import bundle_files, code_digest, data_digest
from training.dataset import TrainingSet
from training.errors import InvalidSplit
from training.fallbacks import FittedFallback, fit_fallbacks, tier_policies
from training.fit import RECIPE, FittedModel, Recipe, Rows, choose_policy, fit_model
from training.policy_rules import PolicyRules
from training.transaction_log import Progress


@dataclass(frozen=True)
class TrainingPlan:
    """The spans of one training, counted back from its time: held-out rows are the newest mature ones.

    Parameters
    ----------
    train_days, validation_days, test_days
        Lengths; validation follows training, the held-out test follows validation.
    label_delay_days
        Age at which a transaction's label counts as mature.
    review_share, insult_share
        Budgets the thresholds keep, see :func:`training.fit.choose_policy`.
    seed
        Of the fit and of the resamples.
    rules
        What stands around the thresholds.
    recipe
        Of the fit, such as :func:`training.search.read_recipe` reads it.

    Raises
    ------
    InvalidSplit
        A length or a share is out of range.
    """

    train_days: int = 30
    validation_days: int = 7
    test_days: int = 7
    label_delay_days: int = 21
    review_share: float = 0.01
    insult_share: float = 0.001
    seed: int = 0
    rules: PolicyRules = field(default_factory=PolicyRules)
    recipe: Recipe = RECIPE

    def __post_init__(self) -> None:
        least = {"train_days": 1, "validation_days": 1, "test_days": 1, "label_delay_days": 0, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise InvalidSplit(f"{name} {getattr(self, name)} is not at least {bound}")
        for name in ("review_share", "insult_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidSplit(f"{name} {getattr(self, name)} is not in [0, 1]")

    @property
    def days(self) -> int:
        """Days of transactions that are read."""
        return self.train_days + self.validation_days + self.test_days

    def edges(self, as_of_ms: int) -> tuple[int, int, int, int]:
        """Return where training, validation and test start and where the test ends, epoch ms.

        Examples
        --------
        >>> plan = TrainingPlan(train_days=3, validation_days=2, test_days=1, label_delay_days=4)
        >>> [edge // DAY for edge in plan.edges(10 * DAY)]
        [0, 3, 5, 6]
        """
        end = (as_of_ms // DAY - self.label_delay_days) * DAY
        test = end - self.test_days * DAY
        validation = test - self.validation_days * DAY
        return validation - self.train_days * DAY, validation, test, end


@dataclass(frozen=True)
class Challenger:
    """A fitted model with its thresholds, the models of the tiers below it, and the files of their bundle."""

    model: FittedModel
    policy: Policy
    files: Mapping[str, bytes]
    fallbacks: Mapping[Tier, FittedFallback]


def fit_challenger(
    rows: TrainingSet,
    plan: TrainingPlan,
    *,
    as_of_ms: int,
    read_plan: Mapping[str, Any],
    root: Path,
    progress: Progress | None = None,
) -> Challenger:
    """Return the challenger of a training set.

    Parameters
    ----------
    rows
        All days of ``plan``, counted back from ``as_of_ms``; the held-out ones are not looked at.
    read_plan
        How the scorer reads the online store, packed into the bundle.
    root
        Of the source tree, for the code digest.
    progress
        Called with the trees done and the most there can be.

    Raises
    ------
    UnfitTrainingSet
        Too few frauds to fit, or to choose thresholds with.
    """
    start, validation_from, test_from, _ = plan.edges(as_of_ms)
    train, validation = rows.between(start, validation_from), rows.between(validation_from, test_from)
    model = fit_model(
        rows_of(rows, train),
        rows_of(rows, validation),
        rows.features,
        seed=plan.seed,
        recipe=plan.recipe,
        progress=progress,
    )
    fallbacks = fit_fallbacks(rows_of(rows, train), rows_of(rows, validation), rows.features, seed=plan.seed)
    thresholds = choose_policy(
        model.scores(rows.matrix[validation]),
        rows.is_fraud[validation],
        version=f"budget-{plan.review_share:g}-{plan.insult_share:g}",
        review_share=plan.review_share,
        insult_share=plan.insult_share,
        weight=None if rows.weights is None else rows.weights[validation],
    )
    data_sha256 = data_digest(rows, slice(train.start, validation.stop))
    tiers = tier_policies(fallbacks, review_share=plan.review_share, insult_share=plan.insult_share)
    policy = plan.rules.applied(thresholds, tiers, salt=f"{data_sha256} {plan.seed}")
    provenance = {
        "data_sha256": data_sha256,
        "code_sha256": code_digest(root),
        "train_from_ms": start,
        "train_to_ms": validation_from,
        "validation_to_ms": test_from,
        "labels_as_of_ms": as_of_ms,
        "seed": plan.seed,
        "recipe": asdict(plan.recipe),
        "trees": model.trees,
    }
    files = bundle_files(model, policy, read_plan, rows.matrix[train], provenance, fallbacks)
    return Challenger(model, policy, files, fallbacks)


def rows_of(rows: TrainingSet, taken: slice) -> Rows:
    """Return some rows as the fit takes them."""
    return Rows(rows.matrix[taken], rows.is_fraud[taken], None if rows.weights is None else rows.weights[taken])
