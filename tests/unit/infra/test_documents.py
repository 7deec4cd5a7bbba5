"""What docs/aws.md and the runbook say in numbers and commands is what the code says."""

import json
import os
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import botocore.session
import pytest
from botocore.validate import ParamValidator

from fraud.record import records_of
from fraud.scaling import PAYDAY_MINIMUM, PLAN
from fraud.transaction import parse_transaction
from infra import learning, rules
from infra.alarms import ALARMS
from infra.environment import read_environment
from infra.network import INTERFACES, ZONES
from infra.store_users import NOBODY, RIGHTS, access
from infra.trees import ROOMS
from simulation.scale import EXAMPLE

ROOT = Path(__file__).resolve().parents[3]
AWS = (ROOT / "docs" / "aws.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
HOURS, MEAN_RATE, SECONDS = 730, 150, 730 * 3600
COSTS = {
    row[0]: row[1:]
    for row in (
        [cell.strip(" *") for cell in line.strip("|").split("|")]
        for line in AWS.partition("## Cost")[2].splitlines()
        if line.startswith("| ")
    )
}


def dollars(part: str) -> float:
    return float(COSTS[part][-1].replace(",", "").removeprefix("about "))


def price(part: str, place: int = 0) -> float:
    return [float(found) for found in re.findall(r"[0-9.]*[0-9]", COSTS[part][1])][place]


def test_cost_of_what_the_code_decides_is_computed_anew() -> None:
    production = read_environment("prod")
    records = MEAN_RATE * len(list(records_of(EXAMPLE)))
    sent, kept = records * SECONDS / 1e6, records * 7 * 86_400 / 1e6  # GB at a kilobyte each
    payday = PLAN.monthly[0]
    days, hours = 6, payday.to_hour - payday.from_hour
    instance_hours = PLAN.limits.min_instances * HOURS + (PAYDAY_MINIMUM - PLAN.limits.min_instances) * days * hours
    kinesis = [price("Kinesis on demand", place) for place in range(4)]
    expected = {
        "endpoint": instance_hours * price("endpoint"),
        "Valkey": production.data.cache_nodes * HOURS * price("Valkey"),
        "Kinesis on demand": kinesis[0] * HOURS + sent * (kinesis[1] + kinesis[2]) + kept * kinesis[3],
        "VPC endpoints": len(INTERFACES) * len(ZONES) * HOURS * price("VPC endpoints"),
        "Lambda": 6.7e6 * 0.2 * 1.77 * price("Lambda"),
        "nightly job": 30 * price("nightly job"),
    }
    for part, cost in expected.items():
        assert dollars(part) == pytest.approx(cost, rel=0.03, abs=1), part
    assert f"{instance_hours:,} h" in COSTS["endpoint"][0]
    assert f"{records} records a second" in COSTS["Kinesis on demand"][0]
    assert f"{len(INTERFACES)} interfaces x {len(ZONES)} zones" in COSTS["VPC endpoints"][0]
    parts = [dollars(part) for part in COSTS if part not in ("part", "sum") and not part.startswith("-")]
    assert dollars("sum") == pytest.approx(sum(parts), abs=10)
    assert f"{len(ALARMS)} alarms" in COSTS["CloudWatch, KMS, ECR, SQS, SNS"][0]


def test_exceptions_of_least_privilege_are_counted() -> None:
    assert f"; {len(rules.WILDCARDS)} statements have a star" in AWS


def test_users_of_the_store_are_those_of_the_templates() -> None:
    for user in (*RIGHTS, NOBODY):
        assert re.search(rf"^{user} +{re.escape(access(user))}$", AWS, re.MULTILINE), user


@pytest.mark.parametrize(("text", "name"), [(AWS, "tollgate-prod"), (RUNBOOK, "tollgate-ENV")])
def test_rebuild_is_made_of_the_nightly_request_by_the_documented_command(text: str, name: str) -> None:
    assert f"--name {name}-nightly --query Target.Input" in text
    (edit,) = re.findall(r'^ +\| (sed ".*") > rebuild\.json$', text, re.MULTILINE)
    kept = json.dumps(learning._nightly_job(), sort_keys=True).replace("${Role}", "arn:aws:iam::123456789012:role/jobs")
    done = subprocess.run(["bash", "-c", edit], input=kept, capture_output=True, text=True, check=True)
    request = json.loads(done.stdout)
    assert request["AppSpecification"]["ContainerEntrypoint"] == [learning.NIGHTLY_COMMAND, "everything"]
    assert request["StoppingCondition"]["MaxRuntimeInSeconds"] == 86_400
    assert "-nightly-rebuild-1" in request["ProcessingJobName"]
    assert len(request["ProcessingJobName"].replace("${Environment}", "e" * 8)) <= 63
    shape = botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateProcessingJob")
    request["ProcessingJobName"] = request["ProcessingJobName"].replace("${Environment}", "prod")
    assert ParamValidator().validate(request, shape.input_shape).generate_report() == ""


def test_smoke_tests_payment_is_one_that_the_scorer_takes() -> None:
    (body,) = re.findall(r"printf '%s' '(\{.*?\})' > payment\.json", AWS, re.DOTALL)
    done = subprocess.run(["bash", "-c", f"printf '%s' '{body}'"], capture_output=True, check=True)
    payment = parse_transaction(done.stdout, currency="EUR")
    assert payment.transaction_id == "smoke-1"
    assert payment.event_time_ms > 1_700_000_000_000


def test_quota_and_order_of_the_schedules_are_those_of_the_code() -> None:
    concurrency = read_environment("prod").stream.concurrency
    assert f"| Lambda | concurrent executions | {concurrency + 1 + 100} |" in AWS
    minute, hour = re.findall(r"\d+", learning.NIGHTLY)[:2]
    assert f"nights begin at {int(hour):02d}:{int(minute):02d}" in AWS
    weekly_minute, weekly_hour = re.findall(r"\d+", learning.WEEKLY)[:2]
    assert f"on Sundays at {int(weekly_hour):02d}:{int(weekly_minute):02d}" in AWS
    longest = int(hour) * 60 + int(minute) + learning.NIGHTLY_LIMIT_S // 60
    assert longest <= int(weekly_hour) * 60 + int(weekly_minute)
    assert learning.TIMEZONE == "UTC"


def test_newest_package_is_the_one_that_is_listed_first() -> None:
    listed = [command for command in commands() if "list-model-packages" in command]
    assert listed
    for command in listed:
        assert "--sort-by CreationTime --sort-order Descending" in command


def test_only_single_files_are_copied_to_the_screen() -> None:
    copied = [command for command in commands() if re.search(r"\baws s3 cp .* - ", command)]
    assert copied
    for command in copied:
        assert "--recursive" not in command


def test_letters_of_a_day_are_shown_by_the_documented_command(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^DAY=.*?\ndone|^DAY=[^`]*", RUNBOOK, re.MULTILINE)
    day = tmp_path / f"dt={datetime.now(UTC):%F}"
    day.mkdir()
    for number in range(7):
        (day / f"shard-{number}.jsonl").write_text(f'{{"code":"invalid_transaction","reason":"field {number}"}}\n')
    aws = tmp_path / "aws"
    listing = """ls) ls "$3" | sed "s/^/2026-01-01 12:00:00 99 /";;"""
    aws.write_text(f'#!/bin/sh\ncase $2 in {listing} cp) cat "$3"; cat > /dev/null;; esac\n')
    aws.chmod(0o755)
    command = shown.replace("s3://BUCKET/dead-letters", str(tmp_path))
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, env=path)
    assert [json.loads(line)["reason"] for line in done.stdout.splitlines()] == [f"field {n}" for n in range(2, 7)]


def test_command_line_that_is_needed_has_the_commands_that_are_used() -> None:
    second = [command for command in commands() if re.search(r"aws (logs tail|configure export-credentials)", command)]
    assert second
    assert "AWS CLI version 2" in AWS.partition("**You need**")[2].partition("**Step by step**")[0]


def commands() -> list[str]:
    """Return what all documents say in code, lines that go on joined."""
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    return [line for text in texts for line in text.replace("\\\n", " ").splitlines()]


def test_every_image_is_built_by_the_documented_loop() -> None:
    (images,) = re.findall(r"for image in ([a-z ]+); do", AWS)
    assert set(images.split()) == set(ROOMS)
    assert "--platform linux/amd64 --provenance=false" in AWS
