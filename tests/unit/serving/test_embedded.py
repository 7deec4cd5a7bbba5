import json
from typing import Any

from serving.embedded import ENOUGH, NAMESPACE, SERVICE, EmbeddedMetrics
from serving.metrics import Metrics


def only_line(embedded: EmbeddedMetrics, now_ms: int) -> dict[str, Any]:
    (line,) = embedded.lines(now_ms)
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_line_is_valid_emf_for_the_service_and_for_the_model_version() -> None:
    metrics = Metrics()
    metrics.decisions.add(("m1", "p1", "decline", "true"), 3)
    metrics.decisions.add(("m1", "p1", "approve", "false"), 7)
    metrics.requests.add(("/invocations", "500"), 2)
    line = only_line(EmbeddedMetrics(metrics, version=lambda: "m1", write=print), 1_770_000_000_000)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == (NAMESPACE, [["Service"], ["ModelVersion"]])
    assert line["_aws"]["Timestamp"] == 1_770_000_000_000
    assert (line["Service"], line["ModelVersion"]) == (SERVICE, "m1")
    assert all(isinstance(line[metric["Name"]], float) for metric in directive["Metrics"])
    assert len(directive["Metrics"]) <= 100  # CloudWatch's own limit
    wanted = ("Decisions", "Approve", "Review", "Decline", "Degraded", "Errors")
    assert [line[name] for name in wanted] == [10, 7, 0, 3, 3, 2]


def test_what_waiting_cost_is_told() -> None:
    metrics = Metrics()
    metrics.latency.add(0.0004, ("m1", "queue"))
    metrics.reads_skipped.add(count=4)
    metrics.requests_shed.add(count=3)
    metrics.over_budget.add(count=2)
    line = only_line(EmbeddedMetrics(metrics, version=lambda: "m1", write=print), 1)
    wanted = ("ReadsSkipped", "RequestsShed", "OverBudget", "QueueLatencyP99")
    assert [line[name] for name in wanted] == [4, 3, 2, 500.0]


def test_tiers_and_overrides_are_counted_by_name() -> None:
    metrics = Metrics()
    for tier, count in (("full", 9), ("partial", 1), ("no_velocity", 2), ("request_only", 3)):
        metrics.tiers.add(("m1", tier), count)
    for override, count in (("allow_list", 1), ("block_list", 2), ("decline_cap", 3), ("control_group", 4)):
        metrics.overrides.add(("m1", override), count)
    line = only_line(EmbeddedMetrics(metrics, version=lambda: "m1", write=print), 1)
    assert [line[f"Tier{name}"] for name in ("Partial", "NoVelocity", "RequestOnly")] == [1, 2, 3]
    names = ("AllowList", "BlockList", "DeclineCap", "ControlGroup")
    assert [line[f"Override{name}"] for name in names] == [1, 2, 3, 4]


def test_the_next_line_tells_only_what_happened_since() -> None:
    metrics = Metrics()
    embedded = EmbeddedMetrics(metrics, version=lambda: "m1", write=print)
    metrics.decisions.add(("m1", "p1", "approve", "false"), 5)
    metrics.latency.add(0.0004, ("m1", "total"))
    first = only_line(embedded, 1)
    metrics.decisions.add(("m1", "p1", "approve", "false"), 2)
    second = only_line(embedded, 2)
    assert (first["Decisions"], second["Decisions"]) == (5, 2)
    assert first["TotalLatencyP99"] == 500.0
    assert "TotalLatencyP99" not in second


def decide(metrics: Metrics, outcome: str, score: float, count: int) -> None:
    metrics.decisions.add(("m1", "p1", outcome, "false"), count)
    for _ in range(count):
        metrics.scores.add(score, ("m1",))


def test_share_of_declines_and_mean_score_are_those_since_the_last_line() -> None:
    metrics = Metrics()
    embedded = EmbeddedMetrics(metrics, version=lambda: "m1", write=print)
    decide(metrics, "approve", 0.25, 100)
    first = only_line(embedded, 1)
    decide(metrics, "approve", 0.25, 75)
    decide(metrics, "decline", 0.75, 25)
    second = only_line(embedded, 2)
    assert (first["DeclineShare"], second["DeclineShare"]) == (0.0, 25.0)
    assert (first["ScoreMean"], second["ScoreMean"]) == (0.25, 0.375)
    units = {item["Name"]: item["Unit"] for item in second["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert (units["DeclineShare"], units["ScoreMean"]) == ("Percent", "None")


def test_too_few_decisions_have_no_share_and_are_in_the_next_mean() -> None:
    metrics = Metrics()
    embedded = EmbeddedMetrics(metrics, version=lambda: "m1", write=print)
    decide(metrics, "decline", 1.0, ENOUGH - 1)
    assert "DeclineShare" not in (only_line(embedded, 1))
    decide(metrics, "approve", 0.0, ENOUGH + 1)
    assert (only_line(embedded, 2))["ScoreMean"] == (ENOUGH - 1) / (2 * ENOUGH)


def test_percentiles_are_the_bounds_that_hold_them() -> None:
    metrics = Metrics()
    for _ in range(97):
        metrics.latency.add(0.0015, ("m", "total"))
    for _ in range(3):
        metrics.latency.add(0.2, ("m", "total"))
    line = only_line(EmbeddedMetrics(metrics, version=lambda: "m", write=print), 1)
    assert (line["TotalLatencyP50"], line["TotalLatencyP95"], line["TotalLatencyP99"]) == (2_000, 2_000, 250_000)
    assert "StoreLatencyP50" not in line


def test_lines_are_written_when_it_ends() -> None:
    lines: list[bytes] = []
    embedded = EmbeddedMetrics(Metrics(), version=lambda: "m", write=lines.append)
    embedded.start()
    embedded.close()
    assert len(lines) == 1
    assert lines[0].endswith(b"}\n")


def test_after_a_reload_nothing_of_the_version_before_is_credited_to_its_successor() -> None:
    metrics, serving = Metrics(), ["m1"]
    embedded = EmbeddedMetrics(metrics, version=lambda: serving[0], write=print)
    decide(metrics, "decline", 0.75, 60)
    only_line(embedded, 1)
    decide(metrics, "decline", 0.75, 70)
    metrics.missing.add(("m1", "card_velocity"), 5)
    metrics.latency.add(0.2, ("m1", "total"))
    serving[0] = "m2"
    metrics.decisions.add(("m2", "p1", "approve", "false"), 4)
    metrics.latency.add(0.0004, ("m2", "total"))
    metrics.refusals.add(("code", "field"), 3)
    before, now = map(json.loads, embedded.lines(2))
    assert [line["ModelVersion"] for line in (before, now)] == ["m1", "m2"]
    assert [line["Decisions"] for line in (before, now)] == [70, 4]
    assert [line["Decline"] for line in (before, now)] == [70, 0]
    assert [line["MissingViews"] for line in (before, now)] == [5, 0]
    assert [line["TotalLatencyP99"] for line in (before, now)] == [250_000, 500]
    assert (before["DeclineShare"], "DeclineShare" in now) == (100.0, False)
    assert ("Refusals" in before, now["Refusals"]) == (False, 3)
    later = only_line(embedded, 3)  # what has ended is told once
    assert (later["ModelVersion"], later["Decisions"], later["Refusals"]) == ("m2", 0, 0)
