"""The deployer as a function: an approval starts a rollout, the endpoint's settling ends it.

EventBridge starts it twice for each rollout, and for changes that are none. What cannot be done, or did not end well,
raises; Lambda then tries again and at last puts the event into the rollouts queue, whose alarm wakes somebody.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from infra.endpoint import SCALED_TAG, TO_TAG, TOLD_TAG
from infra.environment import Environment, read_environment
from infra.errors import EndpointStuck, MissingPrerequisite, RolledBack
from infra.served import MOVING, NONE
from infra.wiring import Clients, Wired, clients, wire

ENVIRONMENT: Final = "INFRA_ENVIRONMENT"

APPROVAL: Final = "ModelApprovalStatus"
"""Among the fields that changed when a package was approved; AWS tells of changes of its other fields alike."""


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
    RolledBack, EndpointStuck
        The rollout ended otherwise than it was meant to: somebody has to be told.
    """
    kind, detail = event.get("detail-type"), event.get("detail", {})
    if kind == "SageMaker Model Package State Change":
        changed = detail.get("UpdatedModelPackageFields") or [APPROVAL]
        done = _approved(detail["ModelPackageArn"], wired) if APPROVAL in changed else {"event": "approved_before"}
    elif kind == "SageMaker Endpoint State Change":
        done = _settled(str(event.get("id", "")), wired, environment, now_ms=now_ms)
    else:
        raise MissingPrerequisite(f"an event of kind {kind!r} starts nothing here")
    _log(done)
    return done


def _log(event: Mapping[str, str]) -> None:
    sys.stderr.write(json.dumps(event) + "\n")


def _approved(package: str, wired: Wired) -> dict[str, str]:
    rollout = wired.deployer.deploy(package)
    for said in wired.quotas.advice():
        _log({"event": "quota_noted", "advice": said})
    return {"event": "rollout_begun", "step": rollout.step, "config": rollout.config, "previous": rollout.previous}


def _settled(event: str, wired: Wired, environment: Environment, *, now_ms: int) -> dict[str, str]:
    """Register scaling for what serves anew and write the outcome into the registry.

    An endpoint settles after every change of its size too: a minimum that somebody raised by hand stays.
    """
    deployer = wired.deployer
    served = deployer.served()
    done = {"event": "rollout_settled", "status": served.status, "config": served.config, "failure": served.failure}
    if served.status in (*MOVING, NONE):  # something newer is under way, and will settle too
        return done
    if served.status != "InService":
        raise EndpointStuck(f"the endpoint ended as {served.status}: {served.failure or 'AWS gives no reason'}")
    notes = deployer.notes()
    if notes.get(SCALED_TAG) != served.config:
        wired.scale(environment, now_ms=now_ms)
    wanted = notes.get(TO_TAG, served.config)
    package = deployer.package_of(wanted)
    if wanted == served.config:
        if package:
            deployer.mark(package, "deployed")
        return done
    if package:
        deployer.mark(package, "rolled back", served.failure)
    told, _, by = notes.get(TOLD_TAG, "").partition(" ")
    if told == wanted and by != event:
        return done
    deployer.note(**{TOLD_TAG: f"{wanted} {event}"})
    raise RolledBack(f"{wanted} came back, {served.config} serves: {served.failure or 'AWS gives no reason'}")
