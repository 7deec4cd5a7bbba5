"""Signatures against botocore's own signer; credentials against the two places they come from."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as TheirCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.settings import Secret
from stores.credentials import NoCredentials, Renewed, find_credentials
from stores.signing import Credentials, Signer, service_host

printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
names = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz-0123456789"), min_size=1, max_size=20)


@settings(max_examples=150, deadline=None)
@given(
    access=st.text(st.sampled_from("ABCDEFGHIJKLMNOP0123456789"), min_size=16, max_size=20),
    secret=printable,
    token=st.one_of(st.just(""), printable),
    service=names,
    region=names,
    target=st.from_regex(r"[A-Za-z0-9_]{1,30}\.[A-Za-z]{1,30}", fullmatch=True),
    body=st.binary(max_size=200),
    moments=st.lists(st.integers(946_684_800, 4_102_444_800), min_size=1, max_size=3),
)
def test_signature_is_the_one_botocore_makes(
    access: str, secret: str, token: str, service: str, region: str, target: str, body: bytes, moments: list[int]
) -> None:
    host = service_host("example", region)
    signer = Signer(service, region, host)
    for moment in moments:
        ours = signer.headers(
            Credentials(access, Secret(secret), Secret(token)),
            body,
            target=target,
            content_type="application/x-amz-json-1.0",
            now_s=moment + 0.9,
        )
        assert ours["authorization"] == theirs((access, secret, token), service, region, host, ours, body, moment)


def theirs(
    keys: tuple[str, str, str],
    service: str,
    region: str,
    host: str,
    sent: dict[str, str],
    body: bytes,
    moment: int,
) -> str:
    headers = {"Content-Type": sent["content-type"], "X-Amz-Target": sent["x-amz-target"]}
    request = AWSRequest("POST", f"https://{host}/", headers=headers, data=body)
    now = datetime.fromtimestamp(moment, UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda *_args, **_kwargs: now.replace(tzinfo=None))
        botocore.auth.SigV4Auth(TheirCredentials(keys[0], keys[1], keys[2] or None), service, region).add_auth(request)
    return str(request.headers["Authorization"])


@settings(max_examples=100, deadline=None)
@given(
    token=st.one_of(st.just(""), printable),
    method=st.sampled_from(["GET", "PUT"]),
    key=st.text(min_size=1, max_size=20).filter(lambda key: "\x00" not in key and key.isprintable()),
    prefix=st.one_of(st.none(), st.text(st.sampled_from("abc/ +~é&="), min_size=1, max_size=9)),
    conditions=st.dictionaries(
        st.sampled_from(["if-match", "if-none-match", "content-type"]), st.just('"a-1"'), max_size=3
    ),
    body=st.binary(max_size=200),
    moment=st.integers(946_684_800, 4_102_444_800),
)
def test_signature_of_an_object_is_the_one_botocore_makes(
    token: str, method: str, key: str, prefix: str | None, conditions: dict[str, str], body: bytes, moment: int
) -> None:
    query = "" if prefix is None else f"?list-type=2&prefix={quote(prefix, safe='')}"
    address = f"/{quote(key, safe='/~')}{query}"
    ours = Signer("s3", "eu-west-1", "lake.s3.eu-west-1.amazonaws.com").object_headers(
        Credentials("A" * 20, Secret("s"), Secret(token)), method, address, body, conditions=conditions, now_s=moment
    )
    request = AWSRequest(method, f"https://lake.s3.eu-west-1.amazonaws.com{address}", headers=conditions, data=body)
    now = datetime.fromtimestamp(moment, UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda *_args, **_kwargs: now.replace(tzinfo=None))
        patch.setattr(botocore.auth.S3SigV4Auth, "_should_sha256_sign_payload", lambda *_: True)
        keys = TheirCredentials("A" * 20, "s", token or None)
        botocore.auth.S3SigV4Auth(keys, "s3", "eu-west-1").add_auth(request)
    assert ours["authorization"] == request.headers["Authorization"]


@contextmanager
def issuing(answers: list[tuple[int, str]]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Hand credentials out as a container's endpoint does; yield its address and the requests."""
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append({"path": self.path, "authorization": self.headers.get("Authorization", "")})
            status, body = answers[min(len(asked), len(answers)) - 1]
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/role?id=1", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def issued(number: int, expiration: str) -> str:
    return (
        f'{{"AccessKeyId":"A{number}","SecretAccessKey":"S{number}","Token":"T{number}","Expiration":"{expiration}",'
        '"RoleArn":"r"}'
    )


def test_keys_of_the_environment_are_taken_first_and_never_expire() -> None:
    found = find_credentials({"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S", "AWS_SESSION_TOKEN": "T"})
    assert (found.access_key, found.secret_key.value, found.token.value, found.expires_at_s) == ("A", "S", "T", None)
    assert "'S'" not in repr(found)
    assert Renewed(lambda: found).renew() is None


def test_credentials_of_a_container_are_renewed_before_they_expire() -> None:
    answers = [(200, issued(1, "2026-01-01T01:00:00Z")), (500, ""), (200, issued(2, "2026-01-01T02:00:00Z"))]
    now = [datetime(2026, 1, 1, tzinfo=UTC).timestamp()]
    with issuing(answers) as (address, asked):
        environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": address, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Bearer x"}
        renewed = Renewed(lambda: find_credentials(environ), clock=lambda: now[0])
        assert renewed.due_in_s() == 0.0
        assert renewed.renew() == 2700.0
        assert asked == [{"path": "/role?id=1", "authorization": "Bearer x"}]
        now[0] += 2700
        with pytest.raises(NoCredentials, match="answered 500"):
            renewed.renew()
        assert renewed.current is not None
        assert renewed.current.access_key == "A1"
        assert renewed.due_in_s() == 10.0
        assert renewed.renew() == 3600.0
        assert (renewed.current.access_key, renewed.current.token.value) == ("A2", "T2")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "neither AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "A"}, "neither AWS_ACCESS_KEY_ID"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.com/x"}, "neither this machine nor reached by TLS"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/x"}, "did not answer"),
    ],
)
def test_where_there_are_none_it_is_said(environ: dict[str, str], said: str) -> None:
    with pytest.raises(NoCredentials, match=said):
        find_credentials(environ)


@pytest.mark.parametrize("answer", [(200, "no JSON"), (200, "{}"), (200, issued(1, "soon"))])
def test_another_answer_is_no_credentials(answer: tuple[int, str]) -> None:
    with issuing([answer]) as (address, _), pytest.raises(NoCredentials, match="something else"):
        find_credentials({"AWS_CONTAINER_CREDENTIALS_FULL_URI": address})
