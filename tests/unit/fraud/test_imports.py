"""The core loads alone: scoring must not pay for libraries that training needs."""

import json
import pkgutil
import subprocess
import sys

import fraud

FOREIGN = {"boto3", "botocore", "feast", "pandas", "pyarrow", "redis", "sklearn", "xgboost"}
OURS = {"demo", "monitoring", "retraining", "serving", "simulation", "stores", "streaming", "training"}


def test_whole_core_imports_silently_and_without_foreign_libraries() -> None:
    names = [f"fraud.{module.name}" for module in pkgutil.iter_modules(fraud.__path__)]
    assert {"fraud.features", "fraud.bundle", "fraud.record", "fraud.shap"} <= set(names)
    load = f"import importlib, json, sys\nfor name in {names!r}: importlib.import_module(name)\n"
    code = load + "sys.stderr.write(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stderr))
    assert done.stdout == ""
    assert {"fraud", "msgspec", "numba", "numpy"} <= loaded
    assert loaded & (FOREIGN | OURS) == set()
