"""What people and programs read of a run: one HTML file, Markdown, JSON; and the comparison of two runs.

figures                 a result as figures: over time, by latency, of the server; what JSON holds and plots show
charts, panels          SVG with axes; a plot with its name, key and sentence
plots, server_plots     which plots there are
page, markdown          a report for a browser; for a ticket
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fraud_load.report import markdown, page
from fraud_load.report.figures import Figures, document, figures
from fraud_load.result import Result

HTML_FILE: Final = "report.html"
MARKDOWN_FILE: Final = "report.md"

__all__ = ["HTML_FILE", "MARKDOWN_FILE", "Figures", "document", "figures", "write"]


def write(result: Result, found: Figures, html: Path, text: Path) -> None:
    """Write the report of a run as HTML and as Markdown; folders are made."""
    for path, content in ((html, page.render(result, found)), (text, markdown.render(result, found))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
