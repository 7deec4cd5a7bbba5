"""TLS and credentials on the way to the online store: scorer, stream and Feast, against a real Valkey."""

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hiredis
import pytest
import redis
import uvloop

from fraud.errors import StoreUnavailable
from fraud.settings import Secret, Settings
from serving.metrics import Metrics
from serving.redis_store import RedisStore
from stores.access import redis_access
from stores.guards import state_view
from stores.layout import entity_key
from streaming.states import Key, RedisStates, Swap, connect
from tests.support.acl import add_users
from tests.support.bundles import PROJECT, write_test_bundle
from tests.support.emulators import start_valkey, valkey_client
from tests.support.scorers import Scorer, await_true, fill_states, history, payment, start_scorer
from tests.support.tls import Issued, issue, terminate_tls

CARD = entity_key("card_id", "c1", PROJECT)
READ = (b"HMGET", CARD, state_view("card").revision)


@dataclass(frozen=True)
class Guarded:
    """A store that wants TLS and a password; its plain port, for the test itself."""

    plain: int
    port: int
    files: Issued
    client: Any

    def settings(self, **changes: Any) -> Settings:
        mine = Settings(
            redis_host="localhost",
            redis_port=self.port,
            redis_tls=True,
            redis_ca_file=str(self.files.ca),
            redis_username="scorer",
            redis_password=Secret("read"),
            store_timeout_ms=5_000,
        )
        return replace(mine, **changes)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    files = issue(tmp_path_factory.mktemp("tls"), "localhost", "127.0.0.1")
    with start_valkey() as plain, valkey_client(plain) as client, terminate_tls(files, plain) as port:
        fill_states(client, history(60))
        add_users(client, default_password="root")
        owner: Any = redis.Redis(host="127.0.0.1", port=plain, password="root")
        with owner:
            yield Guarded(plain, port, files, owner)


def tried(settings: Settings, caplog: pytest.LogCaptureFixture, *commands: tuple[bytes, ...]) -> list[Any] | str:
    """Return the replies to commands, or why the scorer's store was refused."""

    async def scene() -> list[Any] | str:
        store = RedisStore(redis_access(settings), Metrics(), timeout_ms=settings.store_timeout_ms)
        await store.start()
        try:
            return await store.read(commands)
        except StoreUnavailable:
            refused = [r for r in caplog.records if r.getMessage() == "store_refused_us"]
            return str(refused[-1].__dict__["fields"]["reason"])
        finally:
            await store.close()

    caplog.set_level(logging.INFO)
    found = uvloop.run(scene())
    logged = " ".join(json.dumps(record.__dict__.get("fields", {})) for record in caplog.records)
    assert not any(secret in logged for secret in ("hunter2", '"read"', "c1"))
    return found


def test_scorer_reads_over_tls_as_its_own_user(store: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    found = tried(store.settings(), caplog, READ, (b"PING",))
    assert isinstance(found, list)
    assert found[0][0] is not None
    assert found[1] == b"PONG"


def test_scorers_user_may_read_its_own_project_and_nothing_else(
    store: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    other = entity_key("card_id", "c1", "other")
    found = tried(
        store.settings(),
        caplog,
        (b"HSET", CARD, b"f", b"v"),
        (b"HMGET", other, b"f"),
        (b"DEL", CARD),
        (b"FLUSHALL",),
        (b"KEYS", b"*"),
        (b"CONFIG", b"GET", b"*"),
        (b"EVAL", b"return 1", b"0"),
        (b"SCRIPT", b"LOAD", b"return 1"),
        (b"ACL", b"LIST"),
    )
    assert len(found) == 9
    assert all(isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOPERM") for reply in found)


def test_a_store_that_cannot_be_trusted_or_trusts_us_not_is_refused_with_its_reason(
    store: Guarded, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = issue(tmp_path / "stranger", "localhost")
    elsewhere = issue(tmp_path / "elsewhere", "cache.example")
    assert tried(store.settings(redis_ca_file=str(stranger.ca)), caplog, READ) == "certificate_refused"
    with terminate_tls(elsewhere, store.plain) as port:
        settings = store.settings(redis_ca_file=str(elsewhere.ca), redis_port=port)
        assert tried(settings, caplog, READ) == "certificate_refused"
    assert tried(store.settings(redis_port=store.plain), caplog, READ) in ("no_tls", "too_slow")
    assert tried(store.settings(redis_password=Secret("hunter2")), caplog, READ) == "credentials_refused"
    assert tried(store.settings(redis_username="nobody"), caplog, READ) == "credentials_refused"
    nameless = store.settings(redis_username="", redis_password=Secret())
    assert tried(nameless, caplog, READ) == "credentials_missing"


def test_stream_reads_and_writes_as_writer_and_is_told_why_it_may_not(store: Guarded, tmp_path: Path) -> None:
    key: Key = ("card", "c-stream")
    settings = store.settings(redis_username="writer", redis_password=Secret("write"))
    states = RedisStates(connect(settings), project=PROJECT)
    held = states.read([("card", "c1")])[0]
    assert held.revision > 0
    (nothing,) = states.read([key])
    assert states.swap([Swap(key, nothing, held.state, 1)]) == [True]
    assert states.read([key])[0].revision == 1
    states.close()
    stranger = issue(tmp_path, "localhost")
    for changes, said in (
        ({"redis_ca_file": str(stranger.ca)}, "certificate_refused"),
        ({"redis_password": Secret("hunter2")}, "credentials_refused"),
    ):
        refused = RedisStates(connect(replace(settings, **changes)), project=PROJECT)
        with pytest.raises(StoreUnavailable, match=said):
            refused.read([key])
        refused.close()
    reader = RedisStates(connect(store.settings()), project=PROJECT)
    with pytest.raises(StoreUnavailable, match="NOPERM"):
        reader.swap([Swap(("card", "c-other"), nothing, held.state, 1)])
    reader.close()


def run_scorer(store: Guarded, model: Path, tmp_path: Path, **settings: object) -> Any:
    password = tmp_path / "password"
    password.write_text(str(settings.pop("password", "read")) + "\n")
    ours = {"redis_host": "localhost", "redis_tls": "true", "redis_ca_file": store.files.ca, "store_timeout_ms": 5_000}
    ours |= {"redis_username": "scorer", "redis_password_file": password}
    return start_scorer(model, store.port, **{**ours, **settings})


def wrote(scorer: Scorer) -> float:
    return scorer.metric("tollgate_write_through_total")


def test_scorer_process_is_whole_over_tls_and_degraded_in_order_with_a_wrong_password(
    store: Guarded, tmp_path: Path
) -> None:
    model = write_test_bundle(tmp_path / "model")
    with run_scorer(store, model, tmp_path, write_through=1) as scorer:
        await_true(lambda: not scorer.decide(payment(1))["degraded"])
        await_true(lambda: scorer.events("write_through_failed"))  # this user may read, not write
        assert "NOPERM" in scorer.events("write_through_failed")[0]["error"]
        assert not scorer.decide(payment(1))["degraded"]
    before = store.client.hgetall(entity_key("card_id", "c2", PROJECT))
    user = {"redis_username": "writer", "password": "write"}
    with run_scorer(store, model, tmp_path, write_through=1, **user) as scorer:
        scorer.decide(payment(2))
        await_true(lambda: wrote(scorer) >= 2)
        assert store.client.hgetall(entity_key("card_id", "c2", PROJECT)) != before
    with run_scorer(store, model, tmp_path, password="hunter2") as scorer:
        for number in range(20):
            assert scorer.decide(payment(number))["degraded"]
        assert scorer.metric("tollgate_store_timeouts_total") == 0
        assert {event["reason"] for event in scorer.events("store_refused_us")} == {"credentials_refused"}
        assert b"hunter2" not in b"".join(scorer.lines)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::RuntimeWarning")
def test_feasts_store_takes_tls_user_and_password_from_the_settings(
    store: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.feast_rows import read_state, repo_config, write_state

    monkeypatch.setenv("TOLLGATE_REDIS_HOST", "localhost")
    monkeypatch.setenv("TOLLGATE_REDIS_PORT", str(store.port))
    monkeypatch.setenv("TOLLGATE_REDIS_TLS", "true")
    monkeypatch.setenv("TOLLGATE_REDIS_CA_FILE", str(store.files.ca))
    password = tmp_path / "password"
    password.write_text("root\n")
    monkeypatch.setenv("TOLLGATE_REDIS_PASSWORD_FILE", str(password))
    config = repo_config(tmp_path)
    write_state(config, {"c-feast": (b"state", 3)}, datetime(2026, 1, 1, tzinfo=UTC))
    assert read_state(config, ["c-feast", "c-none"]) == [(b"state", 3), (b"", 0)]
    monkeypatch.setenv("TOLLGATE_REDIS_CA_FILE", str(issue(tmp_path / "stranger", "localhost").ca))
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        read_state(config, ["c-feast"])


def test_a_changed_password_is_read_again_from_where_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stores import access

    monkeypatch.setattr(access, "RENEW_S", 0.05)
    path = tmp_path / "password"
    path.write_text("first")
    with start_valkey() as port, valkey_client(port) as client:
        owner: Any = client
        fill_states(client, history(60))
        owner.config_set("requirepass", "first")
        settings = Settings(redis_port=port, redis_password_file=str(path), store_timeout_ms=5_000)
        metrics = Metrics()

        def change() -> None:
            path.write_text("second")
            owner.config_set("requirepass", "second")
            owner.execute_command("CLIENT", "KILL", "SKIPME", "yes")

        async def scene() -> list[Any]:
            store = RedisStore(redis_access(settings), metrics, timeout_ms=5_000)
            await store.start()
            await store.read([READ])
            change()
            async with asyncio.timeout(30):
                while not metrics.store_probes.values.get(("answered",)):  # noqa: ASYNC110  # it happens in the store
                    await asyncio.sleep(0.01)
            try:
                return await store.read([READ])
            finally:
                await store.close()

        states = RedisStates(connect(settings), project=PROJECT)
        assert states.read([("card", "c1")])[0].revision > 0
        assert uvloop.run(scene())[0][0] is not None
        assert metrics.store_probes.values[("failed",)] >= 1
        await_true(lambda: _reads(states))
        states.close()


def _reads(states: RedisStates) -> bool:
    try:
        return states.read([("card", "c1")])[0].revision > 0
    except StoreUnavailable:
        return False
