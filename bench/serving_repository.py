"""The real feature repository, applied to a temporary registry, with the states of a benchmark's world behind it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.scorer_world import START
from fraud.features import SERVICE
from stores.plan import ReadPlan
from tests.support.bundles import PROJECT, VIEWS

ROOT = Path(__file__).resolve().parents[1]
REPO = ROOT / "feature_repo"
MOMENT = pa.timestamp("us", "UTC")


def apply_repository(folder: Path, redis_port: int) -> Path:
    """Apply ``feature_repo/`` with Redis on loopback as its online store; return the configuration."""
    lake = folder / "lake"
    generate = ("-m", "simulation", "generate", "--days", "4", "--transactions-per-day", "100")
    _run(sys.executable, *generate, "--out", str(lake))
    _write_profiles(lake)
    text = (REPO / "feature_store.local.yaml").read_text(encoding="utf-8")
    text = text.replace("../build/demo/registry.db", str(folder / "registry.db"))
    text = text.replace("${TOLLGATE_REDIS_PORT:-6379}", str(redis_port))
    config = folder / "feature_store.yaml"
    config.write_text(text, encoding="utf-8")
    feast = str(Path(sys.executable).with_name("feast"))
    _run(feast, "-c", str(REPO), "-f", str(config), "apply", FRAUD_LAKE=str(lake))
    return config


def applied_plan(config: Path) -> ReadPlan:
    """Return the read plan of the applied service."""
    from feast import FeatureStore

    from stores.compiling import compile_plan

    return compile_plan(FeatureStore(repo_path=str(REPO), fs_yaml_file=config), SERVICE)


def same_reads(plan: ReadPlan) -> bool:
    """Return whether the applied service is read as the benchmark's world is filled."""
    return plan.project == PROJECT and {
        planned.entity: {(field.view, field.feature) for field in planned.fields} for planned in plan.entities
    } == {
        entity: {(view, feature) for view, features in views.items() for feature in features}
        for entity, views in VIEWS.items()
    }


def _run(*command: str, **environment: str) -> None:
    full = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, cwd=ROOT, env=full, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _write_profiles(lake: Path) -> None:
    for entity, views in VIEWS.items():
        names = views.get(f"{entity}_profile", ())
        if not names:
            continue
        columns: dict[str, Any] = {f"{entity}_id": [f"{entity[0]}0"]}
        for name in names:
            whole = name.endswith(("_days", "_distinct_30d"))
            columns[name] = ["DE"] if name.endswith("country") else np.array([1], np.int64 if whole else np.float64)
        for name in ("event_timestamp", "created_timestamp"):
            columns[name] = pa.array([START * 1000], pa.int64()).cast(MOMENT)
        folder = lake / "profiles" / entity
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), folder / "0.parquet")
