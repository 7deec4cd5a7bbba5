"""The scorer itself with XGBoost's ``pred_contribs`` in the place of its own attributions; started by a benchmark."""

import os
from pathlib import Path

import numpy as np
import xgboost as xgb

from fraud import shap
from fraud.settings import read_settings
from fraud.shap import Explainer
from fraud.velocity import FloatArray
from serving import model
from serving.logs import start_logging
from serving.server import serve


def main() -> None:
    """Serve until SIGTERM."""
    settings = read_settings(os.environ)
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray((Path(settings.model_dir) / "model.json").read_bytes()))

    width = booster.num_features()

    def attributions(explainer: Explainer, row: FloatArray) -> FloatArray:
        if len(row) != width:  # a fallback's, which is only warmed
            return shap.attributions(explainer, row)
        found = booster.predict(xgb.DMatrix(row.reshape(1, -1), nthread=1), pred_contribs=True)
        return np.asarray(found[0, :-1], np.float64)

    model.attributions = attributions  # type: ignore[attr-defined]  # it is another module's function there
    start_logging()
    serve(settings)


if __name__ == "__main__":
    main()
