from pathlib import Path

import pytest

from fraud.scaling import PLAN
from infra.approval import scaled_to
from infra.environment import FOLDER, read_environment
from infra.errors import InvalidEnvironment
from infra.rendering import as_data
from infra.stacks import STACKS, Stack, parameters
from infra.wiring import clients


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = (FOLDER / "dev.toml").read_text()
    assert old in text
    (tmp_path / "dev.toml").write_text(text.replace(old, new, 1))
    return tmp_path


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_committed_environments_can_be_read_and_are_not_ready(name: str) -> None:
    environment = read_environment(name)
    assert environment.bucket == f"tollgate-{name}-lake-123456789012"
    assert environment.unready() == ["images.inference", "images.job", "images.lambda", "artifacts.feast_registry"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("shards = 1", "shards = -1", r"data\.shards=-1 is no whole number in 0\.\.10000"),
        ("shards = 1", "shards = true", r"data\.shards=True"),
        ("shards = 1", "shard = 1", r"data\.shard is missing or unknown"),
        ("canary_percent = 50", "canary_percent = 51", r"hosting\.canary_percent=51 is no whole number in 1\.\.50"),
        ('region = "eu-west-1"', 'region = "Ireland"', r"account\.region='Ireland' does not match"),
        ('region = "eu-west-1"', 'region = "eu-central-1"', r"images\.inference does not lie in"),
        ("shards = 1", "shards = 8", r"stream\.concurrency=\d+ holds 8 shards back; .* has to be 32 or more"),
        ('prefix = "10.', 'prefix = "10.9', r"network\.prefix='10\.9\d+' does not match"),
        ('currency = "EUR"', 'currency = "eur"', r"data\.currency='eur'"),
        ("@sha256:0", ":latest0", r"images\.inference='.*latest"),
        ('"ml.c7i.large", ', '"c7i.large", ', r"hosting\.instance_types"),
        ('plan = "small"', 'plan = "large"', r"hosting\.plan='large'"),
        ("[hosting]", "[hostings]", "section hosting is missing or unknown"),
        ("[hosting]", "[hosting", "Expected"),
    ],
)
def test_bad_value_is_refused_by_name(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(InvalidEnvironment, match=said):
        read_environment("dev", changed(tmp_path, old, new))


@pytest.mark.parametrize("name", ["staging", "../dev", "", "DEV"])
def test_unknown_environment_names_the_known_ones(name: str) -> None:
    with pytest.raises(InvalidEnvironment, match="known are dev, prod"):
        read_environment(name)


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_every_parameter_of_every_template_is_given(stack: Stack) -> None:
    environment = read_environment("prod")
    found = {"S3PrefixList": "pl-1", "DynamoDbPrefixList": "pl-2"}
    template = as_data(stack)
    given = parameters(template, environment, found)
    assert given.keys() == template["Parameters"].keys()
    addresses = {value for value in given.values() if value.startswith("/")}
    said = {
        f"/tollgate/prod/{other.name}/{item['Properties']['Name']['Fn::Sub'].rsplit('/', 1)[1]}"
        for other in STACKS
        for item in as_data(other)["Resources"].values()
        if item["Type"] == "AWS::SSM::Parameter"
    }
    assert addresses <= said


def test_a_second_environment_may_have_the_plan_of_production(tmp_path: Path) -> None:
    text = (FOLDER / "prod.toml").read_text().replace("eu-west-1", "eu-central-1")
    (tmp_path / "prodtwo.toml").write_text(text)
    second = read_environment("prodtwo", tmp_path)
    assert scaled_to(PLAN, second) == PLAN
    assert second.bucket == "tollgate-prodtwo-lake-123456789012"
    assert scaled_to(PLAN, read_environment("dev")) != PLAN


def test_region_that_does_not_exist_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    text = (FOLDER / "dev.toml").read_text().replace("eu-west-1", "eu-wesst-1")
    (tmp_path / "dev.toml").write_text(text)
    with pytest.raises(
        InvalidEnvironment, match=r"eu-wesst-1 is no region .*near: eu-west-\d.*account\.region in infra"
    ):
        clients(read_environment("dev", tmp_path))
