"""Registers a scaling plan with Application Auto Scaling. The same plan again changes nothing."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from fraud.scaling import Raise, ScalingPlan, StepScaling, TargetTracking, scheduled_actions
from infra.names import PRODUCT

NAMESPACE: Final = "sagemaker"
DIMENSION: Final = "sagemaker:variant:DesiredInstanceCount"


@dataclass(frozen=True)
class Registered:
    """What was registered, what was left out because its date has passed, and what was removed."""

    policies: tuple[str, ...]
    scheduled: tuple[str, ...]
    past: tuple[str, ...]
    removed: tuple[str, ...]


class Scaling:
    """Scaling of one endpoint.

    Parameters
    ----------
    scaling
        boto3 client of ``application-autoscaling``.
    cloudwatch
        boto3 client of ``cloudwatch``.
    endpoint, variant
        What is scaled.
    """

    def __init__(self, scaling: Any, cloudwatch: Any, *, endpoint: str, variant: str) -> None:
        self._scaling = scaling
        self._cloudwatch = cloudwatch
        self._endpoint = endpoint
        self._variant = variant
        self._target = {
            "ServiceNamespace": NAMESPACE,
            "ResourceId": f"endpoint/{endpoint}/variant/{variant}",
            "ScalableDimension": DIMENSION,
        }

    def register(self, plan: ScalingPlan, *, now_ms: int) -> Registered:
        """Register limits, policies and scheduled minimums; remove scheduled ones that the plan has no more."""
        self._scaling.register_scalable_target(
            **self._target, MinCapacity=plan.minimum_at(now_ms), MaxCapacity=plan.limits.max_instances
        )
        for policy in plan.tracking:
            self._track(policy)
        self._step(plan.burst)
        wanted = scheduled_actions(plan)
        coming = [action for action in wanted if not _passed(action, plan.timezone, now_ms)]
        for action in coming:
            self._schedule(action, plan)
        return Registered(
            (*(policy.name for policy in plan.tracking), plan.burst.name),
            tuple(action.name for action in coming),
            tuple(action.name for action in wanted if action not in coming),
            self._remove_others({action.name for action in coming}),
        )

    def _track(self, policy: TargetTracking) -> None:
        self._scaling.put_scaling_policy(
            **self._target,
            PolicyName=policy.name,
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": policy.target,
                "PredefinedMetricSpecification": {"PredefinedMetricType": policy.metric},
                "ScaleOutCooldown": policy.scale_out_cooldown_s,
                "ScaleInCooldown": policy.scale_in_cooldown_s,
                "DisableScaleIn": not policy.scale_in,
            },
        )

    def _step(self, policy: StepScaling) -> None:
        answer = self._scaling.put_scaling_policy(
            **self._target,
            PolicyName=policy.name,
            PolicyType="StepScaling",
            StepScalingPolicyConfiguration={
                "AdjustmentType": "PercentChangeInCapacity",
                "StepAdjustments": [
                    {
                        "MetricIntervalLowerBound": step.above,
                        **({} if step.below is None else {"MetricIntervalUpperBound": step.below}),
                        "ScalingAdjustment": step.percent,
                    }
                    for step in policy.steps
                ],
                "MinAdjustmentMagnitude": policy.min_added,
                "Cooldown": policy.cooldown_s,
                "MetricAggregationType": "Maximum",
            },
        )
        self._cloudwatch.put_metric_alarm(
            AlarmName=step_alarm(self._endpoint, policy),
            AlarmDescription="Starts the step policy of the same name; no person needs to act.",
            AlarmActions=[answer["PolicyARN"]],
            Namespace="AWS/SageMaker",
            MetricName=policy.metric,
            Dimensions=[
                {"Name": "EndpointName", "Value": self._endpoint},
                {"Name": "VariantName", "Value": self._variant},
            ],
            Statistic=policy.statistic,
            Period=policy.period_s,
            EvaluationPeriods=policy.evaluation_periods,
            Threshold=policy.threshold,
            ComparisonOperator="GreaterThanOrEqualToThreshold",
            TreatMissingData="notBreaching",
            Tags=[{"Key": "Product", "Value": PRODUCT}],
        )

    def _schedule(self, action: Raise, plan: ScalingPlan) -> None:
        self._scaling.put_scheduled_action(
            **self._target,
            ScheduledActionName=action.name,
            Schedule=action.when,
            Timezone=plan.timezone,
            ScalableTargetAction={"MinCapacity": action.min_instances},
        )

    def _remove_others(self, wanted: set[str]) -> tuple[str, ...]:
        pages = self._scaling.get_paginator("describe_scheduled_actions").paginate(**self._target)
        there = [item["ScheduledActionName"] for page in pages for item in page["ScheduledActions"]]
        others = sorted(set(there) - wanted)
        for name in others:
            self._scaling.delete_scheduled_action(**self._target, ScheduledActionName=name)
        return tuple(others)


def step_alarm(endpoint: str, policy: StepScaling) -> str:
    """Return the name of the alarm that starts a step policy.

    Examples
    --------
    >>> from fraud.scaling import PLAN
    >>> step_alarm("tollgate-dev-scorer", PLAN.burst)
    'tollgate-dev-scorer-burst'
    """
    return f"{endpoint}-{policy.name}"


def _passed(action: Raise, timezone: str, now_ms: int) -> bool:
    """Return whether a one-time action's moment is over: AWS refuses such an action."""
    if not action.when.startswith("at("):
        return False
    moment = datetime.fromisoformat(action.when[3:-1]).replace(tzinfo=ZoneInfo(timezone))
    return moment.timestamp() * 1000 <= now_ms
