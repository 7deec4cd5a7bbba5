"""What runs beside the scorer in its process: decision log, write-through, lists, shadow, metric lines.

Each is started when the settings ask for it, and said to be impossible then rather than on the first payment.
"""

import os
from pathlib import Path

from fraud.errors import TollgateError
from fraud.settings import Settings
from serving.decisions import DecisionLog
from serving.delivery import TIMEOUT_S as DELIVERY_TIMEOUT_S
from serving.delivery import Delivery
from serving.embedded import EmbeddedMetrics, write_stdout
from serving.list_bucket import ListBucket, is_in_s3, open_address
from serving.list_reload import ListFolder, ListReloader, ListSource
from serving.lists import Lists
from serving.metrics import Metrics
from serving.overrides import Overrides
from serving.scorer import Scorer
from serving.shadow import Shadow
from serving.writing import WriteThrough
from stores.access import redis_access
from stores.aws_call import AwsCalls


class StartRefused(TollgateError):
    """The scorer cannot start; nothing was left half started."""

    code = "start_refused"


def start_log(settings: Settings, metrics: Metrics) -> DecisionLog | None:
    """Start the decision log; null when there is to be none."""
    if not (settings.decision_log or settings.decision_stream):
        return None
    directory = Path(settings.decision_log) if settings.decision_log else None
    most_bytes = settings.decision_log_mb << 20
    log = DecisionLog(directory, metrics=metrics, delivery=_open_delivery(settings, metrics), most_bytes=most_bytes)
    try:
        log.start()
    except OSError as error:
        raise StartRefused(f"cannot write the decision log in {settings.decision_log} ({error.strerror})") from None
    return log


def _open_delivery(settings: Settings, metrics: Metrics) -> Delivery | None:
    if not settings.decision_stream:
        return None
    calls = AwsCalls(
        "firehose", settings.region, settings.aws_endpoint, environ=os.environ, timeout_s=DELIVERY_TIMEOUT_S
    )
    return Delivery(calls, settings.decision_stream, metrics=metrics)


def start_writer(settings: Settings, metrics: Metrics) -> WriteThrough | None:
    """Start writing states ahead of the stream; null when that is the stream's alone."""
    if not settings.write_through:
        return None
    directory = Path(settings.decision_log).parent / "written" if settings.decision_log else None
    access = redis_access(settings, patient=True)
    lifetime_s = settings.redis_key_ttl_s
    writer = WriteThrough(access, project=settings.project, metrics=metrics, directory=directory, lifetime_s=lifetime_s)
    try:
        writer.start()
    except OSError as error:
        raise StartRefused(f"cannot tell written states in {directory} ({error.strerror})") from None
    return writer


def start_lists(settings: Settings, metrics: Metrics, overrides: Overrides) -> ListReloader | None:
    """Start reading lists into ``overrides``; null when there are none."""
    if not settings.lists:
        return None

    def take(new: Lists) -> None:
        overrides.lists = new

    lists = ListReloader(_source(settings), take=take, metrics=metrics)
    lists.start()
    return lists


def _source(settings: Settings) -> ListSource:
    if not is_in_s3(settings.lists):
        return ListFolder(Path(settings.lists))
    address = open_address(settings.lists, region=settings.region, endpoint=settings.aws_endpoint, environ=os.environ)
    return ListBucket(address)


def start_shadow(settings: Settings, metrics: Metrics, key: bytes | None) -> Shadow | None:
    """Start scoring along with a challenger, signed when ``key`` is given; null when there is none ever."""
    if not settings.shadow_dir:
        return None
    log = Path(settings.decision_log) if settings.decision_log else None
    shadow = Shadow(Path(settings.shadow_dir), log=log, metrics=metrics, key=key)
    try:
        shadow.start()
    except OSError as error:
        raise StartRefused(f"cannot write the shadow's log in {settings.decision_log} ({error.strerror})") from None
    return shadow


def start_embedded(settings: Settings, metrics: Metrics, scorer: Scorer) -> EmbeddedMetrics | None:
    """Start writing CloudWatch's metric lines; null when only ``/metrics`` is wanted."""
    if settings.metrics == "prometheus":
        return None
    embedded = EmbeddedMetrics(metrics, version=lambda: scorer.model.bundle.version, write=write_stdout)
    embedded.start()
    return embedded
