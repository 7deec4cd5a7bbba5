"""What an endpoint and a model package are, as SageMaker describes them now."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from infra.endpoint import Package
from infra.errors import MissingPrerequisite

NONE: Final = "None"
"""Status of an endpoint that does not exist."""

MOVING: Final = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})


@dataclass(frozen=True)
class Served:
    """What the endpoint is doing.

    Parameters
    ----------
    status
        SageMaker's, or ``None``.
    config
        Endpoint configuration that serves; empty for none.
    coming
        Configuration that is being rolled out; empty for none.
    failure
        Why the last change failed; empty when it did not.
    """

    status: str
    config: str = ""
    coming: str = ""
    failure: str = ""


def look(sagemaker: Any, endpoint: str) -> Served:
    """Return what an endpoint is doing."""
    answer = ask(sagemaker.describe_endpoint, EndpointName=endpoint)
    if answer is None:
        return Served(NONE)
    pending = answer.get("PendingDeploymentSummary") or {}
    return Served(
        answer["EndpointStatus"],
        answer["EndpointConfigName"],
        pending.get("EndpointConfigName", ""),
        answer.get("FailureReason") or "",
    )


def package(sagemaker: Any, arn: str, *, group: str, approved: bool) -> Package:
    """Return a model package that can be served.

    Raises
    ------
    MissingPrerequisite
        It is of another group, does not exist, has no model or no image by digest, or should be approved and is not.
    """
    if f":model-package/{group}/" not in arn:
        raise MissingPrerequisite(f"{arn} is no package of {group}; see aws sagemaker list-model-packages")
    answer = ask(sagemaker.describe_model_package, ModelPackageName=arn)
    if answer is None:
        raise MissingPrerequisite(f"there is no model package {arn}")
    if approved and answer.get("ModelApprovalStatus") != "Approved":
        raise MissingPrerequisite(f"{arn} is {answer.get('ModelApprovalStatus')}, not Approved")
    containers = answer.get("InferenceSpecification", {}).get("Containers") or [{}]
    image, model = containers[0].get("Image", ""), containers[0].get("ModelDataUrl", "")
    if not model:
        raise MissingPrerequisite(f"{arn} names no model archive")
    if "@sha256:" not in image:
        raise MissingPrerequisite(f"{arn} has the image {image!r}, which is not one by digest: what it is may change")
    return Package(arn, int(answer.get("ModelPackageVersion", 0)), image, model)


def ask(call: Callable[..., Any], **request: Any) -> Any:
    """Return AWS's description of something, null when it does not exist."""
    try:
        return call(**request)
    except ClientError as error:
        message = error.response["Error"]["Message"].lower()
        if "could not find" in message or "does not exist" in message or "not found" in message:
            return None
        raise
