from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fraud.scaling import PLAN, scheduled_actions
from infra.catalogue import SERVICES
from infra.data import IMAGES
from infra.environment import FOLDER, READS_PERCENT, read_environment
from infra.errors import InvalidEnvironment
from infra.names import repository_name
from infra.rendering import as_data
from infra.stacks import STACKS, Stack, parameters
from infra.wiring import clients
from serving.budget import READS_END


def changed(tmp_path: Path, old: str, new: str, name: str = "dev") -> Path:
    text = (FOLDER / f"{name}.toml").read_text()
    assert old in text
    (tmp_path / f"{name}.toml").write_text(text.replace(old, new, 1))
    return tmp_path


def moment(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type, misc]


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
        (
            'region = "eu-west-1"',
            'region = "eu-central-1"',
            r"inference='\d+\.dkr\.ecr\.eu-west-1\..*eu-central-1\..*push",
        ),
        (
            'region = "eu-west-1"',
            'region = "eu-west-9"',
            r"region='eu-west-9' is no region .*near: eu-west-\d,.*correct it",
        ),
        ('region = "eu-west-1"', 'region = "us-iso-west-1"', r"region='us-iso-west-1' is a region without .*sagemaker"),
        (
            "tollgate-dev/inference",
            "tollgate-prod/inference",
            r"inference='.*-prod/inference' is not .*-dev/inference, wh",
        ),
        ("tollgate-dev/job", "tollgate-dev/lambda", r"images\.job='.*-dev/lambda' is not .*-dev/job, where .* push"),
        ("tollgate-dev/lambda", "tollgate-dev/job", r"images\.lambda='.*-dev/job' is not .*-dev/lambda"),
        ("instances = 2 ", "instances = 99 ", r"hosting\.instances=99 lies above scaling\.max_instances=4; lower it"),
        ("ml.c7i.large", "ml.c7i.lrage", r"instance_types\[0\]='ml\.c7i\.lrage' is no .*near: ml\.c7i\.large,"),
        (
            "ml.c6i.large",
            "ml.c7i.large",
            r"instance_types\[1\]='ml\.c7i\.large' is named twice; name each type once",
        ),
        ('["ml.c7i.large"', '[["ml.c7i.large"]', r"instance_types\[0\]=\['ml\.c7i\.large'\] is no instance type"),
        ('["ml.c7i.large"', '[7, "ml.c7i.large"', r"instance_types\[0\]=7 is no instance type .*near: none"),
        ('["ml.c7i.large", "ml.c6i.large", "ml.m7i.large"]', "[]", r"instance_types=\[\] is no list of 1 to 5 types"),
        ("shards = 1", "shards = 8", r"stream\.concurrency=\d+ holds 8 shards back; .* has to be 32 or more"),
        ('prefix = "10.', 'prefix = "10.9', r"network\.prefix='10\.9\d+' does not match"),
        ('currency = "EUR"', 'currency = "eur"', r"data\.currency='eur'"),
        ("@sha256:0", ":latest0", r"images\.inference='.*latest"),
        ('"ml.c7i.large", ', '"c7i.large", ', r"hosting\.instance_types"),
        ('plan = "small"', 'plan = "large"', r"hosting\.plan='large'"),
        ("[hosting]", "[hostings]", "section hosting is missing or unknown"),
        ("[hosting]", "[hosting", "Expected"),
        ("[scorer]", "[score]", "section score is missing or unknown"),
        ("request_budget_ms = 50", "request_budget_ms = 4", r"scorer\.request_budget_ms=4 is no whole .* 5\.\.60000$"),
        ("request_budget_ms = 50", "request_budget_ms = 50.0", r"scorer\.request_budget_ms=50\.0 is no whole number"),
        (
            "store_timeout_ms = 30",
            "store_timeout_ms = 0",
            r"scorer\.store_timeout_ms=0 is no whole number in 1\.\.10000",
        ),
        (
            "store_timeout_ms = 30",
            "",
            r"scorer\.store_timeout_ms is missing .* known are request_budget_ms, store_timeout",
        ),
        (
            "store_timeout_ms = 30",
            "store_timeout_ms = 36",
            r"store_timeout_ms=36 is never .* for 35 at most; .*raise requ",
        ),
        ("[scaling]", "[scale]", "section scal(e|ing) is missing or unknown"),
        (
            "max_instances = 4",
            "max_instances = 4\nzones = 3",
            r"scaling\.zones is missing or unknown; known are timezone",
        ),
        ("min_instances = 2\n", "", r"scaling\.min_instances is missing or unknown"),
        ("min_instances = 2", "min_instances = 0", r"scaling\.min_instances=0 is no whole number in 1\.\.1000"),
        ("max_instances = 4", "max_instances = 1", r"scaling\.max_instances=1 lies below min_instances=2; raise it"),
        ("max_instances = 4", 'max_instances = "4"', r"scaling\.max_instances='4' is no whole number"),
        (
            '"Europe/Berlin"',
            '"Berlin"',
            r"scaling\.timezone='Berlin' is no time zone known here; write one as Europe/B",
        ),
        ('"Europe/Berlin"', '"../../etc/passwd"', r"scaling\.timezone='\.\./\.\./etc/passwd' is no time zone"),
        (
            '"Europe/Berlin"',
            '"localtime"',
            r"scaling\.timezone='localtime' is another .* on every machine; write one as E",
        ),
        ('"Europe/Berlin"', '"right/Europe/Berlin"', r"scaling\.timezone='right/Europe/Berlin' is no time zone"),
        ('"Europe/Berlin"', '["Europe/Berlin"]', r"scaling\.timezone=\['Europe/Berlin'\] is no time zone"),
        ('"Europe/Berlin"', '""', r"scaling\.timezone='' is no time zone"),
        ('"Europe/Berlin"', "1", r"scaling\.timezone=1 is no time zone"),
        (
            "max_instances = 4",
            "max_instances = 4\nmonthly = 1",
            r"scaling\.monthly=1 is no list .* \[\[scaling\.monthly\]\]",
        ),
        (
            "max_instances = 4",
            "max_instances = 4\nmonthly = [1]",
            r"scaling\.monthly\[0\]=1 is no table; it has the keys",
        ),
    ],
)
def test_bad_value_is_refused_by_name(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(InvalidEnvironment, match=said):
        read_environment("dev", changed(tmp_path, old, new))


@pytest.mark.parametrize("name", ["staging", "../dev", "", "DEV"])
def test_unknown_environment_names_the_known_ones(name: str) -> None:
    with pytest.raises(InvalidEnvironment, match="known are dev, prod"):
        read_environment(name)


def test_a_file_whose_name_is_no_environments_is_not_offered(tmp_path: Path) -> None:
    for name in ("dev", "dev2"):
        (tmp_path / f"{name}.toml").write_text("")
    with pytest.raises(InvalidEnvironment, match=r"known are dev; a name is 2 to 8 letters"):
        read_environment("dev2", tmp_path)


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


def test_latency_alarm_follows_the_scorers_budget(tmp_path: Path) -> None:
    serving = next(as_data(stack) for stack in STACKS if stack.name == "serving")
    name = serving["Resources"]["ScorerLatencyAlarm"]["Properties"]["Threshold"]["Ref"]
    slower = read_environment("dev", changed(tmp_path, "request_budget_ms = 50", "request_budget_ms = 120"))
    thresholds = [parameters(serving, each, {})[name] for each in (read_environment("dev"), slower)]
    assert thresholds == ["50000", "120000"], "microseconds, as ModelLatency"


PEAK = 'name = "payday"\ndays = [25, 26, 27, 28]\nfrom_hour = 4\nto_hour = 23\nmin_instances = 15'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (PEAK, PEAK.replace("days", "day"), r"scaling\.monthly\[0\]\.day is missing or unknown; known are name, days"),
        (PEAK, PEAK.replace('name = "payday"\n', ""), r"scaling\.monthly\[0\]\.name is missing or unknown"),
        (PEAK, PEAK.replace("payday", "pay day"), r"scaling\.monthly\[0\]\.name='pay day' does not match"),
        (
            PEAK,
            PEAK.replace("payday", "month-end"),
            r"monthly\[1\]\.name='month-end' is taken by scaling\.monthly\[0\]; ",
        ),
        (PEAK, PEAK.replace("payday", "black-friday"), r"promotions\[0\]\.name='black-friday' is taken by"),
        (PEAK, PEAK.replace("28", "32"), r"scaling\.monthly\[0\]\.days\[3\]=32 is no whole number in 1\.\.31"),
        (PEAK, PEAK.replace("[25, 26, 27, 28]", '["last"]'), r"monthly\[0\]\.days\[0\]='last' is no whole number"),
        (PEAK, PEAK.replace("[25, 26, 27, 28]", "[]"), r"monthly\[0\]\.days=\[\] is neither 'last' nor a list of days"),
        (PEAK, PEAK.replace("28", "27"), r"monthly\[0\]\.days=\[25, 26, 27, 27\] is neither .* each once"),
        (PEAK, PEAK.replace("28", "true"), r"monthly\[0\]\.days\[3\]=True is no whole number"),
        (PEAK, PEAK.replace("to_hour = 23", "to_hour = 24"), r"monthly\[0\]\.to_hour=24 is no whole number in 1\.\.23"),
        (PEAK, PEAK.replace("to_hour = 23", "to_hour = 4"), r"monthly\[0\]\.to_hour=4 is not after from_hour=4"),
        (PEAK, PEAK.replace("15", "31"), r"scaling\.monthly: peaks may meet on one day.* give all of them the same"),
        (
            "max_instances = 30",
            "max_instances = 14",
            r"monthly\[0\]\.min_instances=15 does not lie in 4\.\.14.* change it",
        ),
        ("\nmin_instances = 4", "\nmin_instances = 16", r"monthly\[0\]\.min_instances=15 does not lie in 16\.\.30"),
        ("first = 2026-11-26", "", r"scaling\.promotions\[0\]\.first is missing or unknown"),
        (
            "first = 2026-11-26",
            'first = "2026-11-26"',
            r"promotions\[0\]\.first='2026-11-26' is no date; .*without quotes",
        ),
        ("first = 2026-11-26", "first = 2026-11-26T00:00:00", r"promotions\[0\]\.first=.* is no date"),
        ("first = 2026-11-26", "first = 2026-12-01", r"promotions\[0\]\.last=2026-11-30 lies before first=2026-12-01"),
        (
            "last = 2026-11-30",
            "last = 2027-11-30",
            r"promotions\[0\]\.last=2027-11-30 lies over 366 days from .* year right",
        ),
        ("last = 2026-11-30", "last = 9999-12-31", r"promotions\[0\]\.last=9999-12-31 does not lie in 2020-01-01\.\."),
    ],
)
def test_bad_peak_is_refused_by_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(InvalidEnvironment, match=rf"prod\.toml: .*{said}"):
        read_environment("prod", changed(tmp_path, old, new, "prod"))


def test_more_scheduled_minimums_than_aws_takes_are_refused(tmp_path: Path) -> None:
    more = "".join(
        f'[[scaling.promotions]]\nname = "year{year}"\nfirst = {year}-01-01\nlast = {year}-12-31\nmin_instances = 15\n'
        for year in (2027, 2028)
    )
    with pytest.raises(InvalidEnvironment, match=r"scaling\.promotions: the peaks make \d+ .* AWS takes 200; take out"):
        read_environment("prod", changed(tmp_path, "[[scaling.promotions]]", f"{more}[[scaling.promotions]]", "prod"))


def test_production_scales_as_the_capacity_model_says() -> None:
    assert read_environment("prod").scaling == PLAN


def test_environment_has_peaks_and_a_time_zone_of_its_own(tmp_path: Path) -> None:
    folder = changed(tmp_path, '"Europe/Berlin"', '"America/New_York"', "prod")
    text = (folder / "prod.toml").read_text().replace("min_instances = 15", "min_instances = 9")
    (folder / "prod.toml").write_text(text.replace("[25, 26, 27, 28]", "[15]"))
    plan = read_environment("prod", folder).scaling
    assert plan.minimum_at(moment(2026, 10, 15, 7, 59)) == 4, "03:59 in New York"
    assert plan.minimum_at(moment(2026, 10, 15, 8, 0)) == 9
    assert plan.minimum_at(moment(2026, 10, 25, 12, 0)) == 4
    assert (plan.tracking, plan.burst) == (PLAN.tracking, PLAN.burst)


def test_small_environment_has_its_limits_and_no_peaks(tmp_path: Path) -> None:
    small = read_environment("prod", changed(tmp_path, 'plan = "production"', 'plan = "small"', "prod")).scaling
    assert (small.limits, small.timezone) == (PLAN.limits, PLAN.timezone)
    assert scheduled_actions(small) == []
    dev = read_environment("dev").scaling
    assert (dev.limits.min_instances, dev.limits.max_instances, list(scheduled_actions(dev))) == (2, 4, [])


def test_peaks_of_a_small_environment_may_be_larger_than_it_and_have_to_be_right(tmp_path: Path) -> None:
    folder = changed(tmp_path, 'plan = "production"', 'plan = "small"', "prod")
    text = (folder / "prod.toml").read_text().replace("max_instances = 30", "max_instances = 6")
    (folder / "prod.toml").write_text(text)
    assert read_environment("prod", folder).scaling.limits.max_instances == 6
    (folder / "prod.toml").write_text(text.replace("28]", "32]"))
    with pytest.raises(InvalidEnvironment, match=r"scaling\.monthly\[0\]\.days\[3\]=32"):
        read_environment("prod", folder)


def test_a_second_environment_may_have_the_plan_of_production(tmp_path: Path) -> None:
    text = (FOLDER / "prod.toml").read_text().replace("eu-west-1", "eu-central-1")
    (tmp_path / "prodtwo.toml").write_text(text)
    with pytest.raises(InvalidEnvironment, match=r"images\.inference='.*-prod/inference' is not .*-prodtwo/inference"):
        read_environment("prodtwo", tmp_path)
    (tmp_path / "prodtwo.toml").write_text(text.replace("/tollgate-prod/", "/tollgate-prodtwo/"))
    second = read_environment("prodtwo", tmp_path)
    assert second.scaling == PLAN
    assert second.bucket == "tollgate-prodtwo-lake-123456789012"


def test_scorer_reads_for_as_much_of_its_budget_as_an_environment_may_give_the_store() -> None:
    assert READS_END * 100 == READS_PERCENT


def test_region_that_does_not_exist_is_refused_before_anything_is_asked() -> None:
    dev = read_environment("dev")
    nowhere = replace(dev, account=replace(dev.account, region="eu-wesst-1"))
    with pytest.raises(
        InvalidEnvironment, match=r"eu-wesst-1 is no region .*near: eu-west-\d.*account\.region in infra"
    ):
        clients(nowhere)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("latin-1", r"dev\.toml: the byte 0xfc at position (\d+), in line 7, is not UTF-8; save"),
        ("utf-16", "0xff at .*1,"),
    ],
)
def test_file_that_is_not_utf8_is_refused_with_the_byte(tmp_path: Path, encoding: str, said: str) -> None:
    text = (FOLDER / "dev.toml").read_text().replace("fraud-platform", "Müller")
    (tmp_path / "dev.toml").write_text(text)
    assert read_environment("dev", tmp_path).account.owner == "Müller"
    content = text.encode(encoding)
    (tmp_path / "dev.toml").write_bytes(content)
    with pytest.raises(InvalidEnvironment, match=said) as refused:
        read_environment("dev", tmp_path)
    if encoding == "latin-1":
        assert f"position {content.index(0xFC)}," in str(refused.value)


@pytest.mark.parametrize("image", IMAGES)
def test_image_is_asked_of_the_repository_that_the_data_stack_makes(image: str) -> None:
    template = next(as_data(stack) for stack in STACKS if stack.name == "data")
    kind = "AWS::ECR::Repository"
    made = [item["Properties"]["RepositoryName"] for item in template["Resources"].values() if item["Type"] == kind]
    assert {"Fn::Sub": repository_name("${Environment}", image)} in made


def test_every_service_of_a_template_is_asked_of_a_region() -> None:
    types = {item["Type"] for stack in STACKS for item in as_data(stack)["Resources"].values()}
    names = {item.split("::")[1].lower().replace("kinesisfirehose", "firehose") for item in types} - {"iam"}
    assert names <= set(SERVICES)
