"""The replay as one HTML page that needs nothing beside itself."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from training.intervals import Interval
from training.weekly_evaluation import WeeklyEvaluation
from training.weekly_plots import parts_picture, trust_picture, weeks_picture

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#22262b;max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.12rem;margin-top:2rem}p{color:#4b5563;margin:.3rem 0}
table{border-collapse:collapse;width:100%;margin:.6rem 0}
td,th{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #e4e7eb}
td:first-child,th:first-child{text-align:left;white-space:nowrap}th{font-weight:600;color:#4b5563}
img{width:100%;height:auto}
"""


def render_page(found: WeeklyEvaluation, *, title: str) -> str:
    """Return the page."""
    first, last = found.weeks[0], found.weeks[-1]
    about = (
        f"<p>{len(found.weeks)} test weeks from {first.first_day} to that of {last.first_day}: {found.ours.rows:,} "
        f"payments, {found.ours.frauds:,} frauds, judged by {found.judged_by}; {found.left_out:,} payments of cards "
        f"already known as compromised left out; {found.seeds} fits of each side and week. Brackets: 95% intervals "
        "over resampled days, paired.</p>"
    )
    parts = [
        f"<h1>{escape(title)}</h1>",
        about,
        "<h2>False positives where both catch the same share of the fraud</h2>",
        _catch(found),
        "<p>A threshold fixed on validation rows does not reach exactly the share it was fixed for:</p>",
        _fixed(found),
        "<h2>Week by week</h2>",
        _image(weeks_picture(found), "PR-AUC and false positives of each week"),
        _weeks(found),
        "<h2>Ranking and work</h2>",
        _ranking(found),
    ]
    for at in found.at:
        parts += [
            f"<h2>Behind the total at {at.recall:.0%} recall</h2>",
            _image(parts_picture(at), "recall by fraud type, false positives by segment"),
        ]
    parts += [
        "<p>Segments in which the baseline has fewer than 20 false positives are left out of the picture.</p>",
        "<h2>Calibration and cost</h2>",
        _image(trust_picture(found), "reliability and cost curve"),
        _costs(found),
    ]
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _catch(found: WeeklyEvaluation) -> str:
    head = ("both catch", "baseline", "ours", "fewer", "each seed", "fewer by value")
    rows = [
        (
            f"{at.recall:.0%}",
            f"{at.baseline:,.0f}",
            f"{at.ours:,.0f}",
            _share(at.cut),
            " ".join(f"{cut:.0%}" for cut in at.seed_cuts),
            _share(at.value_cut),
        )
        for at in found.at
    ]
    return _table(head, rows)


def _fixed(found: WeeklyEvaluation) -> str:
    rows = [
        (f"{one.side}, fixed at {one.asked:.0%}", f"{one.reached:.1%}", f"{one.false_positives:,.0f}")
        for one in found.fixed
    ]
    return _table(("threshold", "reaches", "false positives"), rows)


def _weeks(found: WeeklyEvaluation) -> str:
    head = ("week from", "payments", "frauds", "PR-AUC", "baseline's", "false positives", "baseline's", "review from",
            "decline from", "reviews a day", "cost per payment")  # fmt: skip
    rows = [
        (
            week.first_day,
            f"{week.rows:,}",
            f"{week.frauds:,}",
            f"{week.pr_auc:.3f}",
            f"{week.baseline_pr_auc:.3f}",
            f"{week.false_positives:,.0f}",
            f"{week.baseline_false_positives:,.0f}",
            f"{week.review_at:.4f}",
            f"{week.decline_at:.4f}",
            f"{week.reviews_a_day:,.1f}",
            f"{week.cost:,.2f}",
        )
        for week in found.weeks
    ]
    return _table(head, rows)


def _ranking(found: WeeklyEvaluation) -> str:
    ours, theirs = found.ours, found.baseline
    rows = [("PR-AUC", _number(ours.pr_auc), _number(theirs.pr_auc))]
    rows += [("ROC-AUC", _number(ours.roc_auc), _number(theirs.roc_auc))]
    rows += [
        (f"recall at {mine.fpr:.1%} false-positive rate", _number(mine.recall), _number(base.recall))
        for mine, base in zip(ours.recall_at_fpr, theirs.recall_at_fpr, strict=True)
    ]
    rows += [(f"card precision@{ours.k}", _number(ours.card_precision), _number(theirs.card_precision))]
    return _table(("first seed, all weeks", "ours", "baseline"), rows)


def _costs(found: WeeklyEvaluation) -> str:
    prices = found.costs
    weekly = float(np.average([week.cost for week in found.weeks], weights=[week.rows for week in found.weeks]))
    return (
        f"<p>Prices: a missed fraud loses {prices.loss_share:.0%} of its amount and a fee of "
        f"{prices.chargeback_minor:,} minor units; a declined honest payment {prices.margin_share:.0%} of its amount "
        f"and {prices.insult_minor:,}; a review {prices.review_minor:,}, and it stops {prices.review_catch:.0%} of the "
        f"frauds it sees. Approving everything costs {found.curve.doing_nothing:,.2f} per payment; thresholds solved "
        f"on each week's validation rows, within the reviewers' budget, cost {weekly:,.2f}.</p>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>" + "".join(lines) + "</table>"


def _image(png: bytes, alt: str) -> str:
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{b64encode(png).decode()}">'


def _share(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.point:.0%}"
    return f"{interval.point:.0%} [{interval.low:.0%}, {interval.high:.0%}]"


def _number(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.point:.3f}"
    return f"{interval.point:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
