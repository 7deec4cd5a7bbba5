"""Instances that an account may have for endpoints, against what a scaling plan may ask for. Advice, never a stop.

Without enough of them scaling ends early and a rollout is refused, and nothing says so before the day it is needed. The
quota counts every endpoint of the account in the region, other teams' too; what those use is not looked at.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from infra.environment import Environment

SERVICE: Final = "service-quotas"
"""boto3's name; IAM's is ``servicequotas``."""

ACTION: Final = "servicequotas:ListServiceQuotas"
OF: Final = "sagemaker"
_TOLD: Final = 160


@dataclass(frozen=True)
class Quota:
    """Most instances of a type at one time, over all endpoints; ``code`` is what a larger one is asked for by."""

    code: str
    instances: int


class Quotas:
    """The quotas that one environment's endpoint lives by.

    Parameters
    ----------
    client
        boto3 client of ``service-quotas``.
    environment
        Its instance types and the limits of its plan.
    """

    def __init__(self, client: Any, environment: Environment) -> None:
        self._client = client
        self._environment = environment

    def advice(self) -> tuple[str, ...]:
        """Return a sentence for each instance type whose quota is too small, or why nobody knows; never raises it."""
        types = self._environment.hosting.instance_types
        try:
            found = self._found({_name(kind): kind for kind in types})
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            said = (
                f"the quotas of {', '.join(types)} were not looked up ({_reason(error)}), so nobody has checked them; "
                f"it takes the right to {ACTION}, and nothing waits for it"
            )
            return (said,)
        return tuple(said for kind in types if (said := self._said(kind, found.get(kind))))

    def _found(self, wanted: Mapping[str, str]) -> dict[str, Quota]:
        """Return quotas by instance type, from as many pages as it takes."""
        found: dict[str, Quota] = {}
        for item in self._listed():
            if item.get("QuotaName") in wanted:
                found[wanted[item["QuotaName"]]] = Quota(item["QuotaCode"], int(item["Value"]))
                if len(found) == len(wanted):
                    break
        return found

    def _listed(self) -> Iterator[Mapping[str, Any]]:
        for page in self._client.get_paginator("list_service_quotas").paginate(ServiceCode=OF):
            yield from page["Quotas"]

    def _said(self, kind: str, quota: Quota | None) -> str:
        most = self._environment.scaling.limits.max_instances
        both = 2 * most
        where = f"--region {self._environment.account.region} --service-code {OF}"
        if quota is None:
            return (
                f"the account has no quota of its own '{_name(kind)}', so AWS's default holds, often 0, and up to "
                f"{both} may be needed; look with: aws service-quotas list-aws-default-service-quotas {where} "
                f"--query \"Quotas[?QuotaName=='{_name(kind)}']\""
            )
        if quota.instances >= both:
            return ""
        short = (
            f"scaling.max_instances={most} and for a rollout beside it"
            if quota.instances < most
            else f"a rollout of more than {quota.instances // 2} instances"
        )
        return (
            f"the quota '{_name(kind)}' is {quota.instances}, too small for {short} (old and new side by side, up to "
            f"{both}); ask for more with: aws service-quotas request-service-quota-increase {where} "
            f"--quota-code {quota.code} --desired-value {both}"
        )


def _name(kind: str) -> str:
    return f"{kind} for endpoint usage"


def _reason(error: Exception) -> str:
    """Return an error in a few words: an emulator's is a page of HTML."""
    if isinstance(error, ClientError):
        code, said = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
        return code if said.lstrip().startswith("<") else f"{code}: {said}"[:_TOLD]
    return " ".join(str(error).split())[:_TOLD]
