import ssl
from pathlib import Path

import pytest

from fraud.errors import InvalidSetting
from fraud.settings import Settings
from stores.access import redis_access
from stores.secrets import SecretUnreadable
from tests.support.emulators import aws_client, aws_environment, start_moto
from tests.support.tls import issue


def test_nothing_set_is_plain_and_nameless() -> None:
    access = redis_access(Settings())
    assert (access.tls, access.authentication(), access.client_options()) == (None, (), {})


def test_tls_verifies_certificate_and_name(tmp_path: Path) -> None:
    files = issue(tmp_path, "localhost")
    access = redis_access(Settings(redis_tls=True, redis_ca_file=str(files.ca)))
    assert access.tls is not None
    assert (access.tls.verify_mode, access.tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert access.tls.minimum_version == ssl.TLSVersion.TLSv1_2
    assert len(access.tls.get_ca_certs()) == 1
    options = access.client_options()
    assert (options["ssl_cert_reqs"], options["ssl_check_hostname"]) == ("required", True)


def test_a_ca_file_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    for path in (tmp_path / "absent.pem", tmp_path / "no.pem", tmp_path):
        with pytest.raises(InvalidSetting, match=f"TOLLGATE_REDIS_CA_FILE='{path}' cannot be used"):
            redis_access(Settings(redis_tls=True, redis_ca_file=str(path)))


def test_password_is_read_from_its_file_without_the_line_end(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("a,b=c d\n")
    access = redis_access(Settings(redis_username="scorer", redis_password_file=str(path)))
    assert access.authentication() == (b"AUTH", b"scorer", b"a,b=c d")
    assert access.client_options() == {"username": "scorer", "password": "a,b=c d"}
    assert "a,b=c d" not in repr(access)


def test_password_file_that_is_absent_or_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, said in (("absent", "cannot be read: No such file"), ("empty", "is empty")):
        with pytest.raises(InvalidSetting, match=said):
            redis_access(Settings(redis_password_file=str(tmp_path / name)))


def test_password_of_secrets_manager_is_read_without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    with start_moto() as endpoint, aws_client("secretsmanager", endpoint) as client:
        arn = client.create_secret(Name="online-store", SecretString="hunter2")["ARN"]
        client.create_secret(Name="bytes", SecretBinary=b"hunter2")
        for name in (arn, "online-store"):
            settings = Settings(redis_password_secret=name, aws_endpoint=endpoint)
            assert redis_access(settings, aws_environment()).authentication() == (b"AUTH", b"hunter2")
        patient = Settings(redis_password_secret="later", aws_endpoint=endpoint)
        access = redis_access(patient, aws_environment(), patient=True)
        assert access.authentication() == ()
        client.create_secret(Name="later", SecretString="hunter3")
        access.refused()
        assert access.authentication() == ()  # it was asked for a moment ago
        monkeypatch.setattr("stores.access.RENEW_S", 0.0)
        access.refused()
        assert access.authentication() == (b"AUTH", b"hunter3")
        for name in ("absent", "bytes"):
            with pytest.raises(SecretUnreadable, match=f"secret {name} cannot be read"):
                redis_access(Settings(redis_password_secret=name, aws_endpoint=endpoint), aws_environment())
