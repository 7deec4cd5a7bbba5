"""The stream is called behind on evidence, by more than one merchant, and no longer than it is."""

from hypothesis import given
from hypothesis import strategies as st

from serving.lag import PLACES, StreamLag
from stores.layout import encode_timestamp

HOUR_MS = 3_600_000


def pass_payments(
    lag: StreamLag, *, hours: float, merchants: int = 50, streamed_until_ms: int | None = None, from_s: float = 0.0
) -> list[bool]:
    """Pass a payment a minute; the stream brings each at once, but none from ``streamed_until_ms`` on."""
    verdicts = []
    newest: dict[str, int] = {}
    for minute in range(int(hours * 60)):
        name, now_s = f"m{minute % merchants}", from_s + minute * 60.0
        event_ms = int(now_s * 1000) + 1_700_000_000_000
        stored = newest.get(name)
        lag.saw(name, event_ms, None if stored is None else encode_timestamp(stored), now_s=now_s)
        if streamed_until_ms is None or event_ms < streamed_until_ms:
            newest[name] = event_ms
        verdicts.append(lag.behind)
    return verdicts


def test_a_stream_that_keeps_up_is_never_behind() -> None:
    assert not any(pass_payments(StreamLag(allowed_s=600), hours=24))


def test_a_stream_that_stopped_is_behind_once_the_allowed_time_has_passed() -> None:
    lag = StreamLag(allowed_s=3600)
    verdicts = pass_payments(lag, hours=8, streamed_until_ms=1_700_000_000_000 + 2 * HOUR_MS)
    assert not any(verdicts[: 3 * 60])
    assert all(verdicts[5 * 60 :])


def test_a_stream_that_caught_up_is_trusted_again() -> None:
    lag = StreamLag(allowed_s=3600)
    pass_payments(lag, hours=8, streamed_until_ms=1_700_000_000_000 + 2 * HOUR_MS)
    assert lag.behind
    assert not pass_payments(lag, hours=4, from_s=8 * 3600.0)[-1]


@given(st.integers(1, 500))
def test_one_merchant_alone_is_no_evidence_however_often_it_is_asked(times: int) -> None:
    lag = StreamLag(allowed_s=60)
    for number in range(times):
        lag.saw("m1", 1_700_000_000_000, None, now_s=number * 100.0)
    assert not lag.behind


def test_a_quiet_merchant_with_an_old_state_is_no_evidence() -> None:
    lag = StreamLag(allowed_s=60)
    for number in range(1000):
        old = encode_timestamp(1_600_000_000_000)
        lag.saw(f"m{number}", 1_700_000_000_000 + number * 60_000, old, now_s=number * 60.0)
    assert not lag.behind


def test_states_that_were_there_and_are_gone_are_evidence_at_once() -> None:
    lag = StreamLag(allowed_s=3600)
    there = encode_timestamp(1_700_000_000_000)
    changes = [lag.saw(f"m{n}", 1_700_000_000_000, stored, now_s=1.0) for stored in (there, None) for n in range(30)]
    assert [change for change in changes if change is not None] == [True]


def test_what_is_remembered_is_bounded_and_many_merchants_still_give_evidence() -> None:
    lag = StreamLag(allowed_s=600)
    for minute in range(3):
        for number in range(3 * PLACES):
            lag.saw(f"m{number}", 1_700_000_000_000 + minute, None, now_s=minute * 601.0)
    assert len(lag._places) == PLACES
    assert lag.behind
