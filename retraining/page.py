"""What the pages of the weekly loop share: their style, and tables."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;color:#22262b;max-width:1120px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.12rem;margin-top:2rem}p{color:#4b5563;margin:.3rem 0}
table{border-collapse:collapse;width:100%;margin:.6rem 0;font-size:.88rem}
td,th{padding:.28rem .5rem;text-align:left;border-bottom:1px solid #e4e7eb;vertical-align:top}
td:last-child{overflow-wrap:anywhere}span{white-space:nowrap}
th{font-weight:600;color:#4b5563;overflow-wrap:normal}td{font-variant-numeric:tabular-nums}
td:first-child{white-space:nowrap}img{width:100%;height:auto}
.good{color:#1c7a4a;font-weight:600}.bad{color:#b3362b;font-weight:600}
"""

_KINDS: Final = {
    "pass": "good", "promoted": "good", "FAIL": "bad", "refused": "bad", "failed": "bad",
}  # fmt: skip


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; verdicts are coloured.

    Examples
    --------
    >>> '<td>a &lt; b</td><td><span class="good">pass</span></td>' in table(("check", ""), [("a < b", "pass")])
    True
    """
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>" + "".join(lines) + "</table>"


def _cell(text: str) -> str:
    kind = _KINDS.get(text)
    return escape(text) if kind is None else f'<span class="{kind}">{escape(text)}</span>'
