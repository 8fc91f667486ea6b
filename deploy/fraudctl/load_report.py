"""`fraudctl load report` and `load compare`: what a run was like, and whether a second one was worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fraudctl.options import json_option
from fraudctl.report import emit

if TYPE_CHECKING:
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


def write_report(result: Result, folder: Path, html: Path | None = None, markdown: Path | None = None) -> list[Path]:
    """Write a run's report into its folder, or into the files given; the files that were written."""
    from fraud_load.report import HTML_FILE, MARKDOWN_FILE, figures, write

    files = [html or folder / HTML_FILE, markdown or folder / MARKDOWN_FILE]
    write(result, figures(result), *files)
    return files
