import dataclasses
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import boto3
import pytest
from moto import mock_aws

from fraud.scaling import BURST, PAYDAY_MINIMUM, PLAN, Promotion, scheduled_actions
from infra.autoscaling import DIMENSION, Scaling

ENDPOINT = "tollgate-dev-scorer"
RESOURCE = f"endpoint/{ENDPOINT}/variant/live"
NOW = int(datetime(2026, 10, 5, 12, tzinfo=UTC).timestamp() * 1000)
AFTER_THE_PROMOTION = int(datetime(2027, 1, 5, 12, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        sagemaker = boto3.client("sagemaker")
        sagemaker.create_model(
            ModelName="m", ExecutionRoleArn="arn:aws:iam::123456789012:role/r", PrimaryContainer={"Image": "i"}
        )
        variant = {"VariantName": "live", "ModelName": "m", "InstanceType": "ml.c5.large", "InitialInstanceCount": 4}
        sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName="c")
        yield


@pytest.fixture
def client() -> Any:
    return boto3.client("application-autoscaling")


@pytest.fixture
def scaling(client: Any) -> Scaling:
    return Scaling(client, boto3.client("cloudwatch"), endpoint=ENDPOINT, variant="live")


def policies(client: Any) -> dict[str, dict[str, Any]]:
    found = client.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=RESOURCE)["ScalingPolicies"]
    return {item["PolicyName"]: item for item in found}


def actions(client: Any) -> dict[str, dict[str, Any]]:
    found = client.describe_scheduled_actions(ServiceNamespace="sagemaker", ResourceId=RESOURCE)["ScheduledActions"]
    return {item["ScheduledActionName"]: item for item in found}


def test_limits_are_those_of_the_plan(client: Any, scaling: Scaling) -> None:
    scaling.register(PLAN, now_ms=NOW)
    (target,) = client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (target["ResourceId"], target["ScalableDimension"]) == (RESOURCE, DIMENSION)
    assert (target["MinCapacity"], target["MaxCapacity"]) == (4, 30)


def test_registering_during_a_peak_keeps_the_peaks_minimum(client: Any, scaling: Scaling) -> None:
    payday = int(datetime(2026, 10, 26, 12, tzinfo=UTC).timestamp() * 1000)
    scaling.register(PLAN, now_ms=payday)
    (target,) = client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert target["MinCapacity"] == PAYDAY_MINIMUM


def test_every_policy_carries_the_plans_figures(client: Any, scaling: Scaling) -> None:
    done = scaling.register(PLAN, now_ms=NOW)
    found = policies(client)
    assert set(found) == set(done.policies) == {"invocations-per-instance", "concurrent-requests", "burst"}
    for policy in PLAN.tracking:
        there = found[policy.name]["TargetTrackingScalingPolicyConfiguration"]
        assert there["TargetValue"] == policy.target
        assert there["PredefinedMetricSpecification"]["PredefinedMetricType"] == policy.metric
        assert there["ScaleOutCooldown"] == policy.scale_out_cooldown_s
        assert there["ScaleInCooldown"] == policy.scale_in_cooldown_s
        assert there["DisableScaleIn"] is not policy.scale_in
    steps = found["burst"]["StepScalingPolicyConfiguration"]
    assert [step["ScalingAdjustment"] for step in steps["StepAdjustments"]] == [step.percent for step in BURST.steps]
    assert "MetricIntervalUpperBound" not in steps["StepAdjustments"][-1]
    assert (steps["MinAdjustmentMagnitude"], steps["Cooldown"]) == (BURST.min_added, BURST.cooldown_s)


def test_burst_alarm_starts_the_step_policy(client: Any, scaling: Scaling) -> None:
    scaling.register(PLAN, now_ms=NOW)
    (alarm,) = boto3.client("cloudwatch").describe_alarms(AlarmNames=[f"{ENDPOINT}-burst"])["MetricAlarms"]
    assert alarm["AlarmActions"] == [policies(client)["burst"]["PolicyARN"]]
    assert (alarm["MetricName"], alarm["Threshold"], alarm["Period"]) == (BURST.metric, BURST.threshold, 60)


def test_every_scheduled_minimum_is_in_local_time(client: Any, scaling: Scaling) -> None:
    scaling.register(PLAN, now_ms=NOW)
    found = actions(client)
    assert {name: (item["Schedule"], item["ScalableTargetAction"]["MinCapacity"]) for name, item in found.items()} == {
        action.name: (action.when, action.min_instances) for action in scheduled_actions(PLAN)
    }
    assert {item["Timezone"] for item in found.values()} == {"Europe/Berlin"}


def test_registering_again_changes_nothing(client: Any, scaling: Scaling) -> None:
    first = scaling.register(PLAN, now_ms=NOW)
    before = (len(policies(client)), sorted(actions(client)))
    assert scaling.register(PLAN, now_ms=NOW) == first
    assert (len(policies(client)), sorted(actions(client))) == before


def test_promotion_that_has_passed_is_not_scheduled_and_is_removed(client: Any, scaling: Scaling) -> None:
    scaling.register(PLAN, now_ms=NOW)
    later = scaling.register(PLAN, now_ms=AFTER_THE_PROMOTION)
    assert len(later.past) == len(later.removed) == 10
    assert all(not item["Schedule"].startswith("at(") for item in actions(client).values())


def test_promotion_taken_out_of_the_plan_is_removed(client: Any, scaling: Scaling) -> None:
    sale = Promotion("sale", date(2026, 12, 5), date(2026, 12, 5), 10)
    scaling.register(dataclasses.replace(PLAN, promotions=(sale,)), now_ms=NOW)
    done = scaling.register(dataclasses.replace(PLAN, promotions=()), now_ms=NOW)
    assert done.removed == ("sale-20261205-0000", "sale-20261206-0000")
