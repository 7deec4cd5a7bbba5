"""What a user would build instead of the scorer: factories of web applications around Feast and XGBoost.

Each one reads the very feature service and the very model that the scorer serves; ``PEER_CONFIG`` is the Feast
configuration, ``PEER_MODEL`` the model as XGBoost saved it. Uvicorn and gunicorn call the factories.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb
from fastapi import FastAPI
from feast import FeatureStore
from flask import Flask, Response, request
from pydantic import BaseModel

from fraud.features import FEATURE_NAMES, SERVICE

REPO = Path(__file__).resolve().parents[1] / "feature_repo"
REVIEW_AT, DECLINE_AT = 0.5, 0.9


class Payment(BaseModel):
    """One payment attempt, validated as FastAPI validates."""

    transaction_id: str
    card_id: str
    merchant_id: str
    amount_minor: int
    currency: str
    event_time_ms: int
    channel: str
    merchant_category: int
    country: str
    device_id: str | None = None
    ip: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    authorised: bool | None = None

    def row(self) -> dict[str, Any]:
        """Return join keys and request values, as the service's on-demand views want them."""
        device = self.device_id or ""
        return {
            "card_id": self.card_id,
            "merchant_id": self.merchant_id,
            "device_id": device,
            "ip": self.ip or "",
            "event_time_ms": self.event_time_ms,
            "amount_minor": self.amount_minor,
            "card_token": self.card_id,
            "merchant_token": self.merchant_id,
            "device_token": device,
            "channel": self.channel,
            "merchant_category": self.merchant_category,
            "country": self.country,
            "latitude": self.latitude,
            "longitude": self.longitude,
        }


def usual() -> FastAPI:
    """Return the usual build: ``get_online_features().to_df()`` and the sklearn wrapper on the data frame."""
    return _usual(explain=False)


def tuned() -> FastAPI:
    """Return the tuned build: asynchronous read, service resolved once, no data frame, ``inplace_predict``."""
    return _tuned(explain=False)


def usual_explained() -> FastAPI:
    """Return the usual build with ``pred_contribs`` on every row."""
    return _usual(explain=True)


def tuned_explained() -> FastAPI:
    """Return the tuned build with ``pred_contribs`` on every row."""
    return _tuned(explain=True)


def _usual(*, explain: bool) -> FastAPI:
    store = FeatureStore(repo_path=str(REPO), fs_yaml_file=Path(os.environ["PEER_CONFIG"]))
    service = store.get_feature_service(SERVICE)
    model = xgb.XGBClassifier(n_jobs=1)
    model.load_model(os.environ["PEER_MODEL"])
    app = FastAPI()

    @app.get("/ping")
    def ping() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/invocations")
    def decide(payment: Payment) -> dict[str, Any]:
        frame = store.get_online_features(service, [payment.row()]).to_df()[list(FEATURE_NAMES)].astype(float)
        score = float(model.predict_proba(frame)[0, 1])
        reasons = []
        if explain:
            matrix = xgb.DMatrix(frame, nthread=1)
            reasons = _heaviest(model.get_booster().predict(matrix, pred_contribs=True)[0])
        return _answer(payment, score, reasons)

    return app


def _tuned(*, explain: bool) -> FastAPI:
    store = FeatureStore(repo_path=str(REPO), fs_yaml_file=Path(os.environ["PEER_CONFIG"]))
    service = store.get_feature_service(SERVICE)
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(os.environ["PEER_MODEL"])
    app = FastAPI()

    @app.get("/ping")
    async def ping() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/invocations")
    async def decide(payment: Payment) -> dict[str, Any]:
        found = (await store.get_online_features_async(service, [payment.row()])).to_dict()
        row = np.array([[found[name][0] for name in FEATURE_NAMES]], np.float64)
        score = float(booster.inplace_predict(row)[0])
        reasons = []
        if explain:
            reasons = _heaviest(booster.predict(xgb.DMatrix(row, nthread=1), pred_contribs=True)[0])
        return _answer(payment, score, reasons)

    return app


def score_only() -> Flask:
    """Return scoring alone, as SageMaker's XGBoost container does it: CSV in, ``DMatrix``, a number out."""
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(os.environ["PEER_MODEL"])
    app = Flask(__name__)

    @app.get("/ping")
    def ping() -> str:
        return "ready"

    @app.post("/invocations")
    def decide() -> Response:
        row = np.array([[float(cell) for cell in request.get_data(as_text=True).split(",")]], np.float64)
        return Response(str(float(booster.predict(xgb.DMatrix(row, nthread=1))[0])), mimetype="text/csv")

    return app


def _heaviest(contributions: "np.ndarray[Any, np.dtype[np.float32]]") -> list[dict[str, Any]]:
    order = np.argsort(-contributions[:-1])[:3]
    return [{"feature": FEATURE_NAMES[int(place)], "weight": float(contributions[place])} for place in order]


def _answer(payment: Payment, score: float, reasons: list[dict[str, Any]]) -> dict[str, Any]:
    outcome = "decline" if score >= DECLINE_AT else "review" if score >= REVIEW_AT else "approve"
    return {"transaction_id": payment.transaction_id, "score": score, "outcome": outcome, "reasons": reasons}
