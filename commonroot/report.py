"""The report: small pieces that stages write their fragments with, and the join into one file.

Every stage writes `report.html` (a body fragment) into its artifact; `join` puts the fragments
that exist so far in pipeline order under the verdict, with the style inside: one file, no network.
"""

import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commonroot.artifact import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "FRAGMENT",
    "VERDICT",
    "details",
    "figure",
    "join",
    "new_figure",
    "prose",
    "section",
    "table",
]

FRAGMENT = "report.html"
VERDICT = "verdict.html"

INK, ACCENT, MUTED = "#1d2b24", "#2e7d4f", "#8a958e"
CYCLE = (ACCENT, "#c8722c", "#3f6fb0", "#9a4f8f", MUTED)

STYLE = """
:root{--ink:#1d2b24;--soft:#5d6b63;--line:#dfe6e1;--accent:#2e7d4f;--paper:#fbfcfa}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
 font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:920px;margin:0 auto;padding:40px 24px 80px}
h1{font-size:30px;margin:0 0 4px}h2{font-size:22px;margin:56px 0 12px;
 padding-top:16px;border-top:2px solid var(--line)}h3{font-size:17px;margin:28px 0 8px}
.sub{color:var(--soft);margin:0 0 24px}
.verdict{background:#fff;border:1px solid var(--line);border-left:5px solid var(--accent);
 border-radius:8px;padding:8px 24px;margin:24px 0}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:14px}nav a{color:var(--accent)}
.scroll{overflow-x:auto;max-height:480px;overflow-y:auto}
table{border-collapse:collapse;font-size:14px;margin:12px 0;width:100%}
th,td{padding:6px 12px 6px 0;text-align:left;border-bottom:1px solid var(--line);
 vertical-align:top}th{color:var(--soft);font-weight:600}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
figure{margin:20px 0}figure svg{width:100%;height:auto}figcaption{color:var(--soft);font-size:14px}
code,pre{font:13px/1.5 ui-monospace,Menlo,Consolas,monospace}
pre{white-space:pre-wrap;background:#fff;border:1px solid var(--line);border-radius:6px;
 padding:12px}
details{margin:12px 0}summary{cursor:pointer;color:var(--accent)}
"""


def section(title: str, *parts: str) -> str:
    """A titled section out of finished HTML parts."""
    return f"<h2 id='{_anchor(title)}'>{html.escape(title)}</h2>\n" + "\n".join(parts) + "\n"


def prose(text: str) -> str:
    """A paragraph of plain text (escaped)."""
    return f"<p>{html.escape(text)}</p>"


def details(summary: str, *parts: str) -> str:
    """Parts folded away behind a line."""
    return f"<details><summary>{html.escape(summary)}</summary>{''.join(parts)}</details>"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table, nothing without rows; numbers are set right, floats shown with three decimals."""
    body = [list(row) for row in rows]
    if not body:
        return ""
    numeric = [all(isinstance(row[i], int | float) for row in body) for i in range(len(header))]
    head = "".join(_cell("th", name, numeric[i]) for i, name in enumerate(header))
    lines = (
        "<tr>" + "".join(_cell("td", cell, numeric[i]) for i, cell in enumerate(row)) + "</tr>"
        for row in body
    )
    return f"<div class=scroll><table><tr>{head}</tr>{''.join(lines)}</table></div>"


def new_figure(width: float = 8.6, height: float = 3.4) -> "Figure":
    """An empty matplotlib figure in the report's look; sizes in inches."""
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update(
        {
            "svg.hashsalt": "commonroot",
            "font.size": 10,
            "font.family": "sans-serif",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": MUTED,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e8ede9",
            "legend.frameon": False,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "axes.prop_cycle": cycler(color=CYCLE),
        }
    )
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def figure(fig: "Figure", caption: str) -> str:
    """A matplotlib figure as inline SVG; equal data gives equal bytes."""
    buffer = io.StringIO()
    fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    label = html.escape(caption, quote=True)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def join(run_dir: Path) -> Path:
    """Write `report.html` from the fragments of all stages that are done; returns its path."""
    folders = sorted(path for path in run_dir.glob("[0-9]-*") if path.suffix == "")
    verdicts = [path / VERDICT for path in folders if (path / VERDICT).is_file()]
    fragments = [path / FRAGMENT for path in folders if (path / FRAGMENT).is_file()]
    bodies = [path.read_text("utf-8") for path in fragments]
    verdict = (
        verdicts[-1].read_text("utf-8")
        if verdicts
        else prose("No verdict yet: the comparison has not run. What is done so far stands below.")
    )
    links = "".join(_link(body) for body in bodies)
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>commonroot · {html.escape(run_dir.name)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{html.escape(run_dir.name)}</h1>"
        "<p class=sub>One root grown on the public web, grafted where private text lives.</p>"
        f"<nav>{links}</nav><div class=verdict>{verdict}</div>{''.join(bodies)}"
        "</main></body></html>"
    )
    target = run_dir / "report.html"
    write_atomic(target, page)
    return target


def _cell(tag: str, value: Any, numeric: bool) -> str:
    if isinstance(value, float):
        text = f"{value:,.3f}"
    elif isinstance(value, int) and not isinstance(value, bool):
        text = f"{value:,}"
    else:
        text = str(value)
    kind = " class=n" if numeric else ""
    return f"<{tag}{kind}>{html.escape(text)}</{tag}>"


def _anchor(title: str) -> str:
    return "".join(char if char.isalnum() else "-" for char in title.lower())


def _link(body: str) -> str:
    title = body.partition("</h2>")[0].rpartition(">")[2]
    return f"<a href='#{_anchor(html.unescape(title))}'>{title}</a>"
