"""Settings: known, bounded, silent about secrets; and the example file says the truth."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from fraud.errors import InvalidSetting
from fraud.settings import PREFIX, Secret, Settings, read_settings

EXAMPLE = Path(__file__).parents[3] / ".env.example"
BOUNDED = {
    "REDIS_PORT": (1, 65_535),
    "REDIS_KEY_TTL_S": (0, 315_360_000),
    "BIND_PORT": (1, 65_535),
    "WORKERS": (0, 256),
    "DECISION_LOG_MB": (128, 10_485_760),
    "REQUEST_BUDGET_MS": (5, 60_000),
    "MOST_CONNECTIONS": (8, 65_536),
    "STORE_TIMEOUT_MS": (1, 10_000),
    "STALE_AFTER_S": (1, 31_536_000),
    "VELOCITY_STALE_AFTER_S": (1, 31_536_000),
    "WRITE_THROUGH": (0, 1),
}


def example() -> dict[str, str]:
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_example_holds_every_setting_and_no_other() -> None:
    assert list(example()) == [PREFIX + item.name.upper() for item in fields(Settings)]


def test_example_holds_the_defaults() -> None:
    assert read_settings(example()) == Settings()
    numbers = {name: value for name, value in example().items() if value.isdigit()}
    assert set(numbers) == {PREFIX + name for name in BOUNDED}


def test_example_explains_every_setting_and_its_bounds() -> None:
    ours, *_ = EXAMPLE.read_text().split("# ---")
    for block in ours.strip().split("\n\n")[1:]:
        lines = block.splitlines()
        assert lines[0].startswith("# "), block
        assert all(line.startswith(PREFIX) for line in lines[1:]), block
        for line in lines[1:]:
            if low_high := BOUNDED.get(line.partition("=")[0].removeprefix(PREFIX)):
                assert "({} to {})".format(*low_high) in lines[0]


def test_example_names_what_the_feature_repository_reads() -> None:
    _, theirs = EXAMPLE.read_text().split("# ---")
    named = re.findall(r"^# (FRAUD_\w+|FEAST_\w+)=", theirs, re.MULTILINE)
    folder = EXAMPLE.with_name("feature_repo")
    sources = [path.read_text() for path in folder.iterdir() if path.suffix in {".py", ".yaml"}]
    read = set(re.findall(r"\bFRAUD_[A-Z]+\b", "".join(sources)))
    assert set(named) == read | {"FEAST_FS_YAML_FILE_PATH"}
    values = dict(re.findall(r"^# (\w+)=(.*)$", theirs, re.MULTILINE))
    assert f'DEFAULT_LAKE: Final = "{values["FRAUD_LAKE"]}"' in (folder / "sources.py").read_text()
    assert (
        EXAMPLE.with_name(values["FEAST_FS_YAML_FILE_PATH"].split("/")[0]).joinpath("feature_store.aws.yaml").is_file()
    )


def test_nothing_set_gives_the_defaults_and_other_variables_are_not_ours() -> None:
    assert read_settings({"PATH": "/bin", "TOLLGATE": "x", "MY_TOLLGATE_REDIS_PORT": "1"}) == Settings()


def test_every_text_setting_is_taken_as_it_stands() -> None:
    texts = {item.name for item in fields(Settings) if item.type is str} - {
        "environment",
        "online_store",
        "currency",
        "metrics",
    }
    for name in texts - {"redis_ca_file", "redis_username"}:
        assert getattr(read_settings({PREFIX + name.upper(): f" {name}=1 "}), name) == f" {name}=1 "
    secure = {"TOLLGATE_REDIS_TLS": "true", "TOLLGATE_REDIS_PASSWORD": " p "}
    found = read_settings({**secure, "TOLLGATE_REDIS_CA_FILE": " c ", "TOLLGATE_REDIS_USERNAME": " u "})
    assert (found.redis_ca_file, found.redis_username, found.redis_password) == (" c ", " u ", Secret(" p "))
    assert len(texts) == 17


@pytest.mark.parametrize("text", ["s3:", "s3://", "s3://bucket", "s3://bucket/", "s3://BUCKET/key", "s3://b/k\n"])
def test_lists_in_s3_have_a_bucket_and_a_key(text: str) -> None:
    for good in ("s3://bucket/key.json", "s3://my.bucket-1/a/folder/", "/s3/lists.json", ""):
        assert read_settings({"TOLLGATE_LISTS": good}).lists == good
    with pytest.raises(InvalidSetting, match=r"TOLLGATE_LISTS=.* is neither s3://bucket/key nor s3://bucket/folder/"):
        read_settings({"TOLLGATE_LISTS": text})


@pytest.mark.parametrize("text", ["", "1", "True", "yes", "false "])
def test_truth_is_true_or_false_and_nothing_else(text: str) -> None:
    assert read_settings({"TOLLGATE_REDIS_TLS": "true"}).redis_tls
    assert not read_settings({"TOLLGATE_REDIS_TLS": "false"}).redis_tls
    with pytest.raises(InvalidSetting, match=f"TOLLGATE_REDIS_CLUSTER={text!r} is neither 'true' nor 'false'"):
        read_settings({"TOLLGATE_REDIS_CLUSTER": text})


@pytest.mark.parametrize("ends", [("", "_FILE"), ("", "_SECRET"), ("_FILE", "_SECRET"), ("", "_FILE", "_SECRET")])
def test_password_is_kept_in_one_place_only(ends: tuple[str, ...]) -> None:
    with pytest.raises(InvalidSetting, match="only one may be set") as caught:
        read_settings({f"TOLLGATE_REDIS_PASSWORD{end}": "hunter2" for end in ends})
    assert "hunter2" not in str(caught.value)


def test_what_would_silently_have_no_effect_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="TOLLGATE_REDIS_USERNAME='scorer' needs a password"):
        read_settings({"TOLLGATE_REDIS_USERNAME": "scorer"})
    with pytest.raises(InvalidSetting, match="needs TOLLGATE_REDIS_TLS=true"):
        read_settings({"TOLLGATE_REDIS_CA_FILE": "/ca.pem"})


@pytest.mark.parametrize("name", ["TOLLGATE_REDIS_PORTS", "TOLLGATE_redis_port", "TOLLGATE_", "TOLLGATE_REDIS_PASWORD"])
def test_unknown_setting_is_refused_by_name_without_its_value(name: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        read_settings({name: "hunter2"})
    assert str(caught.value).startswith(f"{name} is no setting; known are TOLLGATE_AWS_ENDPOINT, ")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", BOUNDED)
def test_number_is_accepted_at_its_bounds_and_refused_beyond(name: str) -> None:
    low, high = BOUNDED[name]
    for value in (low, high):
        assert getattr(read_settings({PREFIX + name: str(value)}), name.lower()) == value
    for value in (low - 1, high + 1, -(10**400)):
        with pytest.raises(InvalidSetting, match=rf"^{PREFIX}{name}={value} is not in "):
            read_settings({PREFIX + name: str(value)})


@pytest.mark.parametrize("text", ["", "12x", "1.5", "1e3", "nan", "0x10"])
def test_number_that_is_none_is_refused_by_value(text: str) -> None:
    with pytest.raises(InvalidSetting, match=f"TOLLGATE_BIND_PORT={text!r} is not a whole number"):
        read_settings({"TOLLGATE_BIND_PORT": text})


@pytest.mark.parametrize("environment", ["", "prod", "AWS", "local "])
def test_unknown_environment_is_refused(environment: str) -> None:
    with pytest.raises(InvalidSetting, match="neither 'local' nor 'aws'"):
        read_settings({"TOLLGATE_ENVIRONMENT": environment})


@pytest.mark.parametrize("name", ["", "Redis", "dynamo", "DynamoDB", "redis "])
def test_unknown_online_store_is_refused(name: str) -> None:
    assert read_settings({"TOLLGATE_ONLINE_STORE": "dynamodb"}).online_store == "dynamodb"
    with pytest.raises(InvalidSetting, match="neither 'redis' nor 'dynamodb'"):
        read_settings({"TOLLGATE_ONLINE_STORE": name})


@pytest.mark.parametrize("currency", ["", "eur", "EURO", "E1R", "ÄÖÜ"])
def test_currency_that_is_no_code_is_refused(currency: str) -> None:
    with pytest.raises(InvalidSetting, match="no ISO 4217 code"):
        read_settings({"TOLLGATE_CURRENCY": currency})


def test_secret_never_shows_itself() -> None:
    found = read_settings({"TOLLGATE_REDIS_PASSWORD": "hunter2"})
    secret = found.redis_password
    assert secret == Secret("hunter2")
    assert secret.value == "hunter2"
    shown = (repr(found), str(found), repr(secret), str(secret), f"{secret}", f"{secret!r}", f"{secret!s:>20}")
    assert not any("hunter2" in text for text in shown)
    assert str(Secret("hunter2")) == str(Secret("x")) == "********"
    assert str(Secret()) == ""


def test_secret_is_not_told_by_the_refusal_of_another_setting() -> None:
    with pytest.raises(InvalidSetting) as caught:
        read_settings({"TOLLGATE_REDIS_PASSWORD": "hunter2", "TOLLGATE_CURRENCY": "no"})
    assert "hunter2" not in str(caught.value)


def test_lifetime_of_keys_cuts_no_window_short() -> None:
    assert read_settings({"TOLLGATE_REDIS_KEY_TTL_S": "2678400"}).redis_key_ttl_s == 2_678_400
    with pytest.raises(InvalidSetting, match="would cut windows short"):
        read_settings({"TOLLGATE_REDIS_KEY_TTL_S": "2678399"})
