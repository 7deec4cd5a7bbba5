"""Traffic in the background of the demo, against a real scorer."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.traffic import SteadyTraffic
from stores.bundle_files import point_to
from tests.support.bundles import write_test_bundle
from tests.support.emulators import free_port, start_valkey, valkey_client
from tests.support.scorers import await_true, fill_states, history, payment, start_scorer


@pytest.fixture(scope="module")
def store() -> Iterator[int]:
    with start_valkey() as port, valkey_client(port) as client:
        fill_states(client, history())
        yield port


def test_traffic_goes_on_through_a_swap_and_sees_both_versions(store: int, tmp_path: Path) -> None:
    link = tmp_path / "model"
    first, second = (write_test_bundle(tmp_path / f"bundle-{seed}", seed) for seed in (1, 2))
    point_to(link, first)
    payments = [payment(number) for number in range(50)]
    with start_scorer(link, store) as scorer:
        with SteadyTraffic(payments, scorer.port, every_s=0.005) as traffic:
            await_true(lambda: sum(traffic.answers.versions.values()) > 60)  # longer than the payments reach once
            (before,) = traffic.answers.versions
            point_to(link, second)
            await_true(lambda: len(traffic.answers.versions) == 2)
            (after,) = set(traffic.answers.versions) - {before}
            assert traffic.wait_for(after, answers=30, within_s=30)
            assert not traffic.wait_for("none of this name", answers=1, within_s=0.1)
        assert traffic.answers.versions[after] >= 30
        assert scorer.metric("tollgate_bundles_loaded_total") == 2
    answers = traffic.answers
    assert answers.errors == 0
    assert sum(answers.versions.values()) == answers.requests


def test_request_that_nobody_answers_is_an_error(store: int, tmp_path: Path) -> None:
    with (
        start_scorer(write_test_bundle(tmp_path / "bundle", 1), store) as scorer,
        SteadyTraffic([payment()], scorer.port, every_s=0.005) as traffic,
    ):
        await_true(lambda: bool(traffic.answers.versions))
        assert scorer.stop() == 0
        await_true(lambda: traffic.answers.errors > 2)
    answers = traffic.answers
    assert answers.requests == sum(answers.versions.values()) + answers.errors


def test_refused_payment_is_an_error_and_the_next_is_sent(store: int, tmp_path: Path) -> None:
    with start_scorer(write_test_bundle(tmp_path / "bundle", 1), store) as scorer:
        payments = [payment(1, currency="XXX"), payment(2)]
        with SteadyTraffic(payments, scorer.port, every_s=0.005) as traffic:
            await_true(lambda: traffic.answers.requests > 9)
    assert traffic.answers.errors > 3
    assert sum(traffic.answers.versions.values()) > 3


def test_leaving_the_block_ends_the_traffic() -> None:
    with SteadyTraffic([payment()], free_port(), every_s=0.005) as traffic:
        await_true(lambda: traffic.answers.errors > 0)
    seen = traffic.answers.requests
    time.sleep(0.1)
    assert traffic.answers.requests == seen
