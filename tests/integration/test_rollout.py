"""Rollouts against real scorer processes: shadow, canary, breaker, rollback, and a conductor that is killed half way.

Emulated are SageMaker's hosting and CloudWatch (``tests/support/hosting.py``); real are the scorers, their bundles out
of the registry's archives, the online store, the metrics on their stdout, and the command lines.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest

from fraud.transaction import encode_transaction
from infra.alarms import rollout_guards
from infra.deployer import Deployer
from infra.endpoint import Place
from infra.environment import Hosting as HostingSettings
from infra.environment import Scorer
from retraining.breaker import BreakerLimits
from retraining.endpoint import Endpoint
from retraining.meters import CloudWatchMeters
from retraining.rollout.canary import Conductor
from retraining.sagemaker_registry import SageMakerRegistry
from retraining.verdict import Check, Verdict
from tests.support.bundles import bundle_files
from tests.support.emulators import start_valkey, valkey_client
from tests.support.guards import quiet_guards
from tests.support.hosting import ROLLED_BACK, Hosting, empty_account, sagemaker_hosting
from tests.support.scorers import ROOT, await_true, fill_states, history, payment

ENDPOINT, GROUP, BUCKET = "tollgate-dev-scorer", "tollgate-dev-scorer", "tollgate-dev-lake-123456789012"
FINE = Verdict((Check("fine", passed=True, evidence="it is"),))
HOSTING = HostingSettings(("ml.c7i.large",), instances=4, canary_percent=50, bake_s=600, plan="small")
PLACE = Place(
    role="arn:aws:iam::123456789012:role/tollgate-dev-scorer",
    subnets=("subnet-1",),
    groups=("sg-1",),
    key="arn:aws:kms:eu-west-1:123456789012:key/11111111-1111-1111-1111-111111111111",
    bucket=BUCKET,
    region="eu-west-1",
    currency="EUR",
    scorer=Scorer(request_budget_ms=50, store_timeout_ms=30),
    store_kind="redis",
    store_host="store",
    store_secret="",
    decisions="",
)
SERVE = """
import serving.embedded, sys
serving.embedded.PERIOD_S = 0.25  # CloudWatch's ten seconds, hurried as everything here is
from serving.__main__ import main
main(["serve"])
"""
AMOUNTS = (
    "transaction_amount", "amount_to_card_mean_30d", "amount_to_card_max_30d", "amount_to_merchant_mean_30d",
    "card_amount_mean_30d",
)  # fmt: skip
"""What differs between the payments of this traffic: a model of all features gives nearly all of them one score."""
CHAMPION = {"seed": 2, "trees": 60, "features": AMOUNTS, "review_at": 0.6, "decline_at": 0.8}
CHALLENGER = {**CHAMPION, "trees": 61}
"""Every score is another one, by 0.014 in the mean; one payment in thirty is declined, as before."""
MISCALIBRATED = {**CHALLENGER, "intercept": 4.0}
BAKE_S = 30.0
"""How long a canary would bake here; the breaker is quicker."""
LIMITS = BreakerLimits(least_decisions=60)


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, empty_account(patch) as address:
        patch.setattr("infra.deployer.POLL_S", 0.05)
        patch.setattr("retraining.endpoint.POLL_S", 0.2)
        patch.setattr("retraining.rollout.canary.POLL_S", 0.2)
        yield address


@pytest.fixture(scope="module")
def store() -> Iterator[int]:
    with start_valkey() as port, valkey_client(port) as client:
        fill_states(client, history(200))
        yield port


class World:
    """An emulated account with the registry, the deployer and what conducts its rollouts."""

    def __init__(self, hosting: Hosting) -> None:
        self.hosting = hosting
        self.sagemaker, self.cloudwatch, s3 = (boto3.client(name) for name in ("sagemaker", "cloudwatch", "s3"))
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        self.sagemaker.create_model_package_group(ModelPackageGroupName=GROUP)
        quiet_guards(self.cloudwatch, rollout_guards("dev"), threshold=0.0)
        self.registry = SageMakerRegistry(
            self.sagemaker, s3, group=GROUP, bucket=BUCKET, image="inference@sha256:" + "1" * 64
        )
        self.deployer = Deployer(
            self.sagemaker, self.cloudwatch, endpoint=ENDPOINT, place=PLACE, hosting=HOSTING,
            guards=rollout_guards("dev"),
        )  # fmt: skip
        self.endpoint = Endpoint(self.sagemaker, self.cloudwatch, ENDPOINT, pause=time.sleep)
        self.conductor = Conductor(
            self.endpoint, self.registry, CloudWatchMeters(self.cloudwatch),
            now_ms=lambda: time.time_ns() // 1_000_000, pause=time.sleep, limits=LIMITS,
        )  # fmt: skip
        self.weeks = 0
        self.scores: dict[str, set[float]] = defaultdict(set)

    @property
    def champion(self) -> str:
        """The version that serves by the registry."""
        version = self.registry.champion_version()
        assert version is not None
        return version

    def approve(self, bundle: dict[str, Any], *, bake_s: float = BAKE_S) -> str:
        """Register a bundle, approve it, and do with the approval's event what EventBridge's target does."""
        self.hosting.hurry = HOSTING.bake_s / bake_s
        version = self.registry.add(bundle_files(**bundle)).version
        self.weeks += 1
        self.registry.promote(version, FINE, as_of_ms=self.weeks)
        self.deployer.deploy(self.arn(version))
        return version

    def serve_another(self) -> str:
        """Approve another good bundle and let it serve."""
        version = self.approve({**CHAMPION, "trees": 70 + self.weeks}, bake_s=0.1)
        self.hosting.settle()
        return version

    def arn(self, version: str) -> str:
        return next(package.arn for package in self.registry.packages() if package.version == version)

    @contextmanager
    def traffic(self) -> Iterator[list[tuple[int, str]]]:
        """Ask for decisions all the time; yield status and model version of each answer."""
        answers: list[tuple[int, str]] = []
        done = threading.Event()

        def ask(first: int) -> None:
            number = first
            while not done.is_set():
                body = encode_transaction(payment(number, transaction_id=f"t{number}"))
                _, status, answer = self.hosting.invoke(ENDPOINT, body)
                said = json.loads(answer)
                answers.append((status, said.get("model_version", "")))
                self.scores[said.get("model_version", "")].add(said.get("score"))
                number += 2
                time.sleep(0.004)  # leaves the processors to the scorers that are starting

        threads = [threading.Thread(target=ask, args=(first,)) for first in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield answers
        finally:
            done.set()
            for thread in threads:
                thread.join()


@pytest.fixture(scope="module")
def world(aws: str, store: int) -> Iterator[World]:
    overrides = {
        "TOLLGATE_ENVIRONMENT": "local", "TOLLGATE_REDIS_HOST": "127.0.0.1", "TOLLGATE_REDIS_PORT": str(store),
        "TOLLGATE_REDIS_TLS": "false", "TOLLGATE_REDIS_PASSWORD_SECRET": "", "TOLLGATE_DECISION_STREAM": "",
        "TOLLGATE_LISTS": "",
        "TOLLGATE_STORE_TIMEOUT_MS": "2000", "PYTHONPATH": str(ROOT),
        "TOLLGATE_REQUEST_BUDGET_MS": "20000",  # a busy machine is no rollout's fault: nothing is shed here
    }  # fmt: skip
    command = [sys.executable, "-c", SERVE]
    with (
        pytest.MonkeyPatch.context() as patch,
        sagemaker_hosting(patch, command=command, environment=overrides, metrics=True) as hosting,
    ):
        found = World(hosting)
        found.approve(CHAMPION)
        hosting.settle()
        yield found


def command(world: World, aws: str, *words: str) -> "subprocess.Popen[bytes]":
    common = ["--models", f"sagemaker:{GROUP}", "--bucket", BUCKET, "--endpoint", ENDPOINT]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AWS_ENDPOINT_URL": aws}
    return subprocess.Popen(
        [sys.executable, "-m", "retraining", *words, *common], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def test_a_good_challenger_goes_full_and_every_request_is_answered(world: World) -> None:
    first = world.champion
    with world.traffic() as answers:
        challenger = world.approve(CHALLENGER, bake_s=4.0)
        report = world.conductor.watch()
        before = len(answers)
        await_true(lambda: len(answers) > before + 20)
    assert (report.ending, report.version, report.reason) == ("full", challenger, "")
    assert report.seen is not None
    assert report.seen.verdict.passed
    assert report.seen.canary.decisions >= LIMITS.least_decisions
    assert min(len(world.scores[version]) for version in (first, challenger)) > 20
    assert not world.scores[first] & world.scores[challenger]
    assert {version for _, version in answers} == {first, challenger}
    assert {version for _, version in answers[-10:]} == {challenger}
    assert {status for status, _ in answers} == {200}
    assert world.registry.champion_version() == challenger


@pytest.mark.parametrize(
    ("intercept", "said"), [(4.0, "decline_rate"), (1.0, "score_distribution")], ids=["declines all", "shifted"]
)
def test_the_same_challenger_miscalibrated_is_stopped_by_what_it_decides_and_the_registry_follows(
    world: World, intercept: float, said: str
) -> None:
    first = world.champion
    with world.traffic() as answers:
        challenger = world.approve({**CHALLENGER, "intercept": intercept})
        report = world.conductor.watch()
        before = len(answers)
        await_true(lambda: len(answers) > before + 20)
    assert (report.ending, report.version) == ("rolled back", first)
    assert said in report.reason
    assert "allowed" in report.reason
    assert {status for status, _ in answers} == {200}
    assert {version for _, version in answers[-10:]} == {first}
    assert challenger in {version for _, version in answers}
    assert world.endpoint.look().failure.startswith(ROLLED_BACK)
    assert f"'{world.endpoint.guard}'" in world.endpoint.look().failure
    assert world.registry.champion_version() == first
    another = world.serve_another()  # the guard came down with the rollout that it stopped
    assert world.conductor.watch().ending == "unchanged"
    assert world.endpoint.look().package == world.arn(another)


def test_a_conductor_that_was_killed_is_replaced_by_running_it_again(world: World, aws: str) -> None:
    first = world.champion
    with world.traffic() as answers:
        challenger = world.approve(MISCALIBRATED)
        process = command(world, aws, "rollout", "watch")
        await_true(lambda: challenger in {version for _, version in answers[-50:]})
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert world.endpoint.look().stage == "canary"
        report = world.conductor.watch()
        assert (report.ending, report.version) == ("rolled back", first)
        assert world.conductor.watch().ending == "unchanged"
    assert {status for status, _ in answers} == {200}
    assert world.registry.champion_version() == first


def test_rollback_in_one_command_finishes_what_a_killed_one_began(
    world: World, aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = world.champion, world.serve_another()
    with world.traffic() as answers:
        with monkeypatch.context() as patch:
            patch.setattr(Endpoint, "return_to", _killed)
            with pytest.raises(KeyboardInterrupt):
                world.conductor.roll_back()
        assert world.registry.champion_version() == first
        assert world.endpoint.look().package == world.arn(second)
        process = command(world, aws, "rollback")
        said, _ = process.communicate(timeout=120)
        assert (process.returncode, said.decode().split(":")[0]) == (0, "rolled back")
        serving = world.endpoint.look()
        assert serving.package == world.arn(first)
        assert world.deployer.notes()["tollgate:rolled-to"] == serving.config  # nothing came back by itself
        before = len(answers)
        await_true(lambda: len(answers) > before + 20)
    assert {status for status, _ in answers} == {200}
    assert {version for _, version in answers[-10:]} == {first}
    assert world.registry.champion_version() == first


def test_rollback_during_a_canary_stops_it(world: World) -> None:
    first = world.champion
    challenger = world.approve({**CHAMPION, "trees": 62})
    with world.traffic():
        await_true(lambda: world.hosting.fleets[ENDPOINT].share > 0)
        report = world.conductor.roll_back()
    assert (report.ending, report.version) == ("rolled back", first)
    assert world.registry.champion_version() == first
    assert {package.version: package.status for package in world.registry.packages()}[challenger] == "Rejected"


def test_a_shadow_release_scores_along_and_answers_with_the_champion(world: World) -> None:
    shadow = world.registry.add(bundle_files(**MISCALIBRATED)).version
    first, world.hosting.hurry = world.champion, 1e4
    world.deployer.deploy(world.arn(first), shadow_arn=world.arn(shadow))
    world.hosting.settle()
    with world.traffic() as answers:
        await_true(lambda: _total(world, first, "ShadowDecisions") >= 20)
    assert {(status, version) for status, version in answers} == {(200, first)}
    assert _total(world, first, "ShadowLost") == 0
    assert world.endpoint.look().package == world.arn(first)


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def _total(world: World, version: str, metric: str) -> float:
    found = world.cloudwatch.get_metric_statistics(
        Namespace="Tollgate", MetricName=metric, Dimensions=[{"Name": "ModelVersion", "Value": version}],
        StartTime=time.time() - 3600, EndTime=time.time() + 60, Period=7200, Statistics=["Sum"],
    )  # fmt: skip
    return float(sum(point["Sum"] for point in found["Datapoints"]))
