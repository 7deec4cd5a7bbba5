"""The data card of a training set: one page that says what is in it, for the person who is about to train on it.

Self-contained HTML: pictures lie in the page. It holds counts and distributions, no row.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from training.data_card_plots import (
    TOP_FEATURES,
    draw_days,
    draw_maturity,
    draw_missing,
    draw_top_features,
    separations,
)
from training.dataset import TrainingSet
from training.durations import duration_ms, duration_text
from training.label_ages import Maturity

_STYLE: Final = """
:root { --ink: #1c2733; --soft: #5a6672; --line: #dde2e7; --good: #1c7a4a; --bad: #b3362b; --paper: #f6f8fa; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.2rem 1.5rem 3rem; }
h1 { margin: 0 0 .3rem; font-size: 1.8rem; } h2 { margin: 2rem 0 .5rem; font-size: 1.2rem; }
p { margin: .3rem 0; } p.lead, .note { color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: .9rem; margin-top: 1.3rem; }
.card { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1rem; }
.card b { display: block; font-size: 1.55rem; line-height: 1.2; } .card span { color: var(--soft); font-size: .87rem; }
.good { color: var(--good); } .bad { color: var(--bad); }
img { width: 100%; background: #fff; border: 1px solid var(--line); border-radius: 8px; }
table { width: 100%; border-collapse: collapse; background: #fff; border: 1px solid var(--line); border-radius: 8px; }
th, td { text-align: left; padding: .4rem .8rem; border-bottom: 1px solid var(--line); font-size: .92rem;
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; width: 14rem; } tr:last-child > * { border-bottom: 0; }
code { font-size: .84em; background: #eef1f4; padding: .05rem .3rem; border-radius: 4px; overflow-wrap: anywhere; }
"""


MOST_DAYS: Final = 10
"""Days without a payment that the page names; the manifest has them all."""


def write_data_card(rows: TrainingSet, manifest: Mapping[str, Any], settled: Maturity, path: Path) -> None:
    """Write the page.

    Parameters
    ----------
    manifest
        Of the set, as :func:`training.dataset_files.build_dataset` makes it.
    settled
        How settled its labels are.
    """
    asked = manifest["request"]
    top = separations(rows)[:TOP_FEATURES]
    delay_ms = duration_ms("label delay", asked["label_delay"])
    parts = [
        f"<h1>Training set, {asked['start']} to {_last_day(asked['end'])}</h1>",
        f'<p class="lead">{_text(_sentence(manifest))}</p>',
        _cards(manifest),
        "<h2>Rows and fraud by day</h2>",
        _picture(draw_days(rows), "Rows and fraud rate by day"),
        f'<p class="note">{_text(_day_note(manifest))}</p>',
        "<h2>Labels</h2>",
        _picture(draw_maturity(settled, delay_ms), "Share of the frauds known by days after the payment"),
        f'<p class="note">{_text(_label_note(manifest))}</p>',
        "<h2>Missing values</h2>",
        _picture(draw_missing(rows), "Share of rows in which each feature is missing"),
        f"<h2>The {len(top)} features that tell frauds apart best</h2>",
        _picture(draw_top_features(rows, top), "Distributions of the best features in both classes"),
        (
            '<p class="note">Share of each class by value, cut at the outer half percents; wide spans are logarithmic. '
            "Separation is the largest gap between both cumulative shares: of one feature alone, not of what a model "
            "makes of all.</p>"
        ),
        "<h2>How it was made</h2>",
        _table(_provenance(manifest)),
    ]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Training set {asked['start']} to {asked['end']}</title><style>{_STYLE}</style></head>\n<body><main>\n"
    )
    path.write_text(page + "\n".join(parts) + "\n</main></body></html>\n", encoding="utf-8")


def _sentence(manifest: Mapping[str, Any]) -> str:
    asked = manifest["request"]
    seen = "what had happened by its time"
    if asked["as_known"]:
        seen = f"only what had arrived {duration_text(asked['lag_ms'])} before its time"
    return (
        f"{manifest['rows']:,} payments with {len(manifest['features'])} features of {asked['service']}. Each row sees "
        f"{seen}. Labels as known on {_moment(asked['labels_as_of_ms'])}."
    )


def _cards(manifest: Mapping[str, Any]) -> str:
    balance, kept, audit = manifest["class_balance"], manifest["sampling"], manifest["leak_audit"]
    maturity = manifest["label_maturity"]["known_by_label_delay"]
    sampled = "every legitimate payment is in it"
    if kept["weight_column"]:
        sampled = f"{kept['keep_legitimate']:g} of the legitimate kept, the others in the weights"
    facts = [
        (f"{manifest['rows']:,}", f"rows; {sampled}", ""),
        (f"{manifest['frauds']:,}", f"frauds, {balance['weighted_fraud_share']:.3%} of the payments", ""),
        (
            "none" if audit["passed"] else f"{len(audit['leaks'])}",
            f"leaks in {audit['probes']} audited rows; {audit['rows_compared']:,} rows equal the path bit for bit",
            "good" if audit["passed"] else "bad",
        ),
        (
            "none known" if maturity is None else f"{maturity:.1%}",
            f"of the frauds known by then were known {manifest['request']['label_delay']} after their payment",
            "",
        ),
    ]
    return '<div class="cards">' + "".join(
        f'<div class="card"><b class="{kind}">{_text(figure)}</b><span>{_text(words)}</span></div>'
        for figure, words, kind in facts
    ) + "</div>"  # fmt: skip


def _day_note(manifest: Mapping[str, Any]) -> str:
    days = manifest["days"]
    empty = days["days_without_rows"]
    if not empty:
        return f"Every day from {days['first_day']} to {days['last_day']} has payments."
    named = ", ".join(empty[:MOST_DAYS]) + (" and more" if len(empty) > MOST_DAYS else "")
    return f"{len(empty)} days without a payment: {named}."


def _label_note(manifest: Mapping[str, Any]) -> str:
    labels, left = manifest["label_maturity"], manifest["immature_rows_left_out"]
    said = ", ".join(f"{count:,} by {source}" for source, count in labels["statements"].items()) or "none"
    note = f"Statements about these rows: {said}. Rows too young for a settled label and left out: {left:,}."
    if not labels["complete"]:
        note += (
            f" The data end on {_moment(labels['known_until_ms'])}, before the labels were read: frauds that become "
            "known later are still counted as legitimate."
        )
    return note


def _provenance(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    audit, kept = manifest["leak_audit"], manifest["sampling"]
    changes = ", ".join(f"{kind}: {count:,}" for kind, count in audit["changes"].items())
    lines = [
        ("sampling", (f"keep {kept['keep_legitimate']:g} of the legitimate, seed {kept['seed']}; "
                     f"{kept['legitimate_rows_left_out']:,} left out")),
        ("audit", f"changes made to the lake that no row may see: {changes}"),
        ("not put to the test", ", ".join(audit["untested"]) or "no feature"),
    ]  # fmt: skip
    return lines + [(f"{name} SHA-256", value) for name, value in manifest["digests"].items()]


def _table(lines: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><th>{_text(name)}</th><td>{f'<code>{_text(value)}</code>' if 'SHA' in name else _text(value)}</td></tr>"
        for name, value in lines
    )
    return f"<table>{cells}</table>"


def _picture(png: bytes, alt: str) -> str:
    return f'<img alt="{_text(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _text(text: str) -> str:
    return html.escape(text)


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC").replace(" 00:00 UTC", "")


def _last_day(end: str) -> str:
    return f"{end} (exclusive)"
