"""`fraudctl load report` and `load compare`: what a run was like, and whether a second one was worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Group
from rich.table import Table

from fraudctl.options import json_option
from fraudctl.report import emit

if TYPE_CHECKING:
    from fraud_load.report.comparison import Comparison
    from fraud_load.result import Result

_file = click.Path(dir_okay=False, path_type=Path)
_run_folder = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("run_folder", type=_run_folder)
@click.option("--html", type=_file, help="HTML file to write.  [default: RUN_FOLDER/report.html]")
@click.option("--markdown", type=_file, help="Markdown file to write.  [default: RUN_FOLDER/report.md]")
@json_option
def report(run_folder: Path, html: Path | None, markdown: Path | None, as_json: bool) -> None:
    """Write the report of a run, RUN_FOLDER, as one HTML file with plots and as Markdown.

    The HTML needs nothing else and opens anywhere. --json prints every figure that is plotted. `load run` writes the
    same files; this is for runs that were moved or made elsewhere. Exit code 0 once they are written: the verdict is
    the run's.
    """
    from fraud_load.report import document, figures
    from fraud_load.result import load

    result = load(run_folder)
    found = figures(result)
    files = write_report(result, run_folder, html, markdown)
    told = {**(document(result, found) if as_json else {}), "files": [str(path) for path in files]}
    lines = [(one.outcome.value, one.text) for one in result.run.slos]
    emit(told, as_json, table=[*lines, *(("", str(path)) for path in files)])


@click.command()
@click.argument("a", type=_run_folder)
@click.argument("b", type=_run_folder)
@click.option("--html", type=_file, help="Write the comparison as an HTML file, with both runs in its plots.")
@click.option(
    "--tolerance",
    "tolerances",
    multiple=True,
    metavar="MEASURE=SHARE",
    help="By how much a measure may be worse: --tolerance p99_ms=0.2. Repeatable.",
)
@json_option
@click.pass_context
def compare(
    ctx: click.Context, a: Path, b: Path, html: Path | None, tolerances: tuple[str, ...], as_json: bool
) -> None:
    """Judge whether run B was worse than run A, both folders of the same scenario: by more than chance.

    p50, p99, throughput, the server's CPU a transaction, errors and degraded answers, each with a 95% interval (block
    bootstrap) against its tolerance. Exit code 0: every one is within its tolerance. 1: a regression, or not enough
    data to say, or the generator or other programs were in the way. 2: the runs are not of the same scenario.
    """
    from fraud_load.report import comparison_page, figures
    from fraud_load.report.comparison import compare as compare_runs
    from fraud_load.result import load, plain

    first, second = load(a), load(b)
    found = compare_runs(first, second, _tolerances(tolerances))
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        page = comparison_page.render(found, (first, figures(first)), (second, figures(second)))
        html.write_text(page, encoding="utf-8")
    emit(plain({**found.as_dict(), "html": None if html is None else str(html)}), as_json, table=_compared(found, html))
    ctx.exit(0 if found.passed else 1)


def _tolerances(given: tuple[str, ...]) -> dict[str, float]:
    from fraud_scoring.errors import InvalidInput

    found = {}
    for one in given:
        name, _, value = one.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise InvalidInput(f"--tolerance {one}: write MEASURE=SHARE, for example --tolerance p99_ms=0.2") from None
    return found


def _compared(found: Comparison, html: Path | None) -> Group:
    from fraud_load.report import comparison_text as words

    table = Table("measure", "A", "B", "change (95%)", "tolerated", "verdict", box=None)
    for one in found.measures:
        verdict = f"{one.verdict.value}: {one.why}" if one.why else one.verdict.value
        values = words.value(one, one.a), words.value(one, one.b)
        table.add_row(words.name(one), *values, words.change(one), words.tolerated(one), verdict)
    return Group(table, *found.notes, *([str(html)] if html else []), words.sentence(found))


def write_report(result: Result, folder: Path, html: Path | None = None, markdown: Path | None = None) -> list[Path]:
    """Write a run's report into its folder, or into the files given; the files that were written."""
    from fraud_load.report import HTML_FILE, MARKDOWN_FILE, figures, write

    files = [html or folder / HTML_FILE, markdown or folder / MARKDOWN_FILE]
    write(result, figures(result), *files)
    return files
