"""The deployer as a function: an approval starts a rollout, the endpoint's settling ends it.

EventBridge starts it twice for each rollout. What cannot be done raises; Lambda then tries again and at last puts the
event into the rollouts queue, whose alarm wakes somebody.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from infra.environment import Environment, read_environment
from infra.errors import MissingPrerequisite
from infra.wiring import Clients, Wired, clients, wire

ENVIRONMENT: Final = "INFRA_ENVIRONMENT"


def lambda_handler(event: Mapping[str, Any], _context: object) -> dict[str, str]:
    """Act on an event of EventBridge."""
    environment = read_environment(os.environ.get(ENVIRONMENT, ""))
    client: Clients = clients(environment)
    return act(event, wire(client, environment), environment, now_ms=time.time_ns() // 1_000_000)


def act(event: Mapping[str, Any], wired: Wired, environment: Environment, *, now_ms: int) -> dict[str, str]:
    """Roll an approved package out, or take note of how a rollout ended.

    Raises
    ------
    MissingPrerequisite
        The event is none of the two kinds.
    """
    kind, detail = event.get("detail-type"), event.get("detail", {})
    if kind == "SageMaker Model Package State Change":
        rollout = wired.deployer.deploy(detail["ModelPackageArn"])
        done = {"event": "rollout_begun", "step": rollout.step, "config": rollout.config, "previous": rollout.previous}
        for said in wired.quotas.advice():
            _log({"event": "quota_noted", "advice": said})
    elif kind == "SageMaker Endpoint State Change":
        done = _settled(wired, environment, now_ms=now_ms)
    else:
        raise MissingPrerequisite(f"an event of kind {kind!r} starts nothing here")
    _log(done)
    return done


def _log(event: Mapping[str, str]) -> None:
    sys.stderr.write(json.dumps(event) + "\n")


def _settled(wired: Wired, environment: Environment, *, now_ms: int) -> dict[str, str]:
    """Register scaling for what serves now and write the outcome into the registry."""
    served = wired.deployer.served()
    if served.status == "InService":
        wired.scaling.register(environment.scaling, now_ms=now_ms)
    package = wired.deployer.package_of(served.config)
    if package and served.status == "InService" and not served.failure:
        wired.deployer.mark(package, "deployed")
    return {"event": "rollout_settled", "status": served.status, "config": served.config, "failure": served.failure}
