"""``python -m monitoring prove``: nothing leaks into a row, and what is served is what the log says.

Both proofs run on a simulated world, or on any lake. The leak prover asks Feast's ``get_historical_features``, which is
what training asks; the certificate rehearses the whole stream (:mod:`monitoring.rehearsal`) and compares every served
vector with the offline store's kernels, which are first held to Feast's own answer on the audited rows.
"""

import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import pyarrow as pa

from fraud.features import SERVICE
from fraud.settings import Settings
from monitoring import certificate
from monitoring.certificate import Losses, certify, losses, read_applied
from monitoring.deliveries import Turbulence
from monitoring.errors import NothingToCompare
from monitoring.offline import FeastHistory, applied_feast
from monitoring.parity import Parity
from monitoring.processes import generate, online_store
from monitoring.rehearsal import Rehearsed, rehearse
from stores.columns import same_bits
from stores.compiling import compile_plan
from training import leaks
from training.dataset import read_log
from training.leaks import LeakAudit, audit
from training.offline_vectors import history_vectors
from training.profiles import write_profiles

Proof = Literal["leaks", "parity"]
Advance = Callable[[int, int], None]
Step = Callable[[str], AbstractContextManager[Advance]]
"""Opens a step by its title; gives what advances it."""

PROOFS: Final[tuple[Proof, ...]] = ("leaks", "parity")
PER_DAY: Final = 5_000
"""Transactions a day of the simulated world."""

_ROUNDS: Final = 3
_HELD_TO_FEAST: Final = 2_000
_END_OF_TIME: Final = 2**42


@dataclass(frozen=True)
class ParityProof:
    """The certificate of a rehearsal, and what its stream did."""

    parity: Parity
    losses: Losses
    rehearsed: Rehearsed

    @property
    def passed(self) -> bool:
        """Whether no vector differs, and no record was lost, doubled or refused."""
        refused = self.rehearsed.dead_lettered
        return not (self.parity.mismatched or self.losses.lost or self.losses.doubled or refused)


@dataclass(frozen=True)
class Proven:
    """What was proven; a proof that was not asked for is null.

    Parameters
    ----------
    transactions
        In the lake.
    kernel_rows, kernel_mismatches
        Rows on which the offline store's kernels were compared with Feast's own answer, and how many differ.
    seconds
        Each step took.
    """

    transactions: int
    kernel_rows: int
    kernel_mismatches: int
    leaks: LeakAudit | None
    parity: ParityProof | None
    seconds: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether every proof holds."""
        held = [proof.passed for proof in (self.leaks, self.parity) if proof is not None]
        return all(held) and not self.kernel_mismatches


def simulated_lake(folder: Path, *, transactions: int, seed: int) -> Path:
    """Return a new lake of about so many simulated transactions, in ``folder``."""
    days = max(2, -(-transactions * 11 // (10 * PER_DAY)))  # a tenth more: fewer pay on some days
    generate(folder / "world", days=days, transactions_per_day=PER_DAY, seed=seed)
    return folder / "world"


def prove(
    lake: Path,
    folder: Path,
    *,
    transactions: int | None,
    seed: int,
    only: Proof | None,
    settings: Settings | None,
    step: Step,
) -> Proven:
    """Run the proofs over a lake.

    Parameters
    ----------
    lake
        With or without profiles; they are computed beside it when it has none.
    folder
        To work in.
    transactions
        Only the first so many; null for all.
    settings
        Of an online store to use; null starts one.
    step
        Tells what is going on.

    Raises
    ------
    NothingToCompare
        The lake holds no transaction.
    """
    clock = _Clock()
    with step("Read the lake") as advance:
        log = read_log(lake, 0, _END_OF_TIME)
        log = log if transactions is None else log.slice(0, transactions)
        if not log.num_rows:
            raise NothingToCompare(f"{lake} holds no transaction")
        lake = with_profiles(lake, folder, advance)
    clock.mark("lake")
    (folder / "feast").mkdir()
    with step("Apply the feature repository") as _, applied_feast(folder / "feast", lake.resolve()) as feast:
        plan = compile_plan(feast.store, SERVICE)
        clock.mark("feast apply")
    sample = np.sort(np.random.default_rng(seed).choice(log.num_rows, min(_HELD_TO_FEAST, log.num_rows), replace=False))
    with step("Hold the kernels to Feast's answer") as _:
        wrong = kernel_mismatches(feast, lake, log.take(pa.array(sample)))
    clock.mark("kernels")
    audited = None
    if only != "parity":
        with step("Look for leaks") as advance:
            audited = audit(feast.vectors, lake, log, seed=seed, rounds=_ROUNDS, advance=advance)
        clock.mark("leaks")
    certified = None
    if only != "leaks":
        manifest_currency = str(log["currency"][0])
        with online_store(settings) as held:
            project = f"prove{uuid.uuid4().hex[:8]}"
            own = replace(held, project=project, currency=manifest_currency)
            with step("Rehearse the stream") as advance:
                found = rehearse(
                    lake,
                    log,
                    msgspec.structs.replace(plan, project=project),
                    own,
                    folder / "applied",
                    seed=seed,
                    turbulence=Turbulence(),
                    advance=advance,
                )
        clock.mark("rehearsal")
        with step("Compare with the log") as advance:
            applied = read_applied(folder / "applied")
            parity = certify(lake, log, found.served, applied, streamed=None, advance=advance)
            certified = ParityProof(parity, losses(applied, expected=found.distinct), found)
        clock.mark("comparison")
    return Proven(log.num_rows, len(sample), wrong, audited, certified, clock.marks)


def with_profiles(lake: Path, folder: Path, advance: Advance) -> Path:
    """Return the lake, or one beside it with the nightly profiles computed from the same log."""
    if (lake / "profiles").is_dir():
        return lake
    beside = folder / "lake"
    beside.mkdir()
    for name in ("transactions", "labels.parquet"):
        if (lake / name).exists():
            (beside / name).symlink_to((lake / name).resolve())
    write_profiles(beside, progress=advance)
    return beside


def kernel_mismatches(feast: FeastHistory, lake: Path, rows: pa.Table) -> int:
    """Return on how many rows the offline store's kernels and Feast's own answer differ in any bit."""
    differs = ~same_bits(feast.vectors(lake.resolve(), rows), history_vectors(lake, rows))
    return int(differs.any(axis=1).sum())


class _Clock:
    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.marks: dict[str, float] = {}

    def mark(self, name: str) -> None:
        now = time.perf_counter()
        self.marks[name] = round(now - self._last, 2)
        self._last = now


def as_data(proven: Proven) -> dict[str, Any]:
    """Return what was proven as plain data."""
    data: dict[str, Any] = {
        "passed": proven.passed,
        "transactions": proven.transactions,
        "kernel_against_feast": {"rows": proven.kernel_rows, "mismatches": proven.kernel_mismatches},
        "seconds": proven.seconds,
    }
    if proven.leaks is not None:
        data["leaks"] = leaks.as_data(proven.leaks)
    if proven.parity is not None:
        found = proven.parity.rehearsed
        data["parity"] = certificate.as_data(proven.parity.parity) | {
            "stream": {
                "records": found.records,
                "distinct": found.distinct,
                "applied": found.applied,
                "repeated": found.repeated,
                "too_late": found.too_late,
                "dead_lettered": found.dead_lettered,
                "rewinds": found.rewinds,
                "lost": proven.parity.losses.lost,
                "doubled": proven.parity.losses.doubled,
                "profile_rows": found.published,
            }
        }
    return data
