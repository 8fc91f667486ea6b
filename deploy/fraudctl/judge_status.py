"""`fraudctl judge status`: what the judge did, what it waits for, and how the logs stand that it reads."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from fraudctl.options import home_option, json_option
from fraudctl.report import emit


@click.command()
@home_option
@click.option(
    "--looked-within",
    "within_s",
    type=click.FloatRange(0.1),
    help="Seconds: exit code 1 if the judge's last look is longer ago, as when it has ended.",
)
@json_option
def status(home: Path, within_s: float | None, as_json: bool) -> None:
    """What is on trial, how the evidence stands, what was done last, and how each log that is read stands."""
    from fraud_judge.journal import last_course, read_journal
    from fraud_judge.sight import last_sight
    from fraud_scoring.releases import release_name

    records = read_journal(home / "judge")
    looked_us, logs = last_sight(home / "judge")
    course = last_course(records)
    result: dict[str, Any] = {"state": "idle", "acts": []}
    lines = [("state", "nothing is on trial")]
    if course is not None:
        acts = [one for one in records if one["kind"] in ("begun", "intent", "done", "yielded", "resumed", "undecided")]
        looks = [one for one in records if one["kind"] == "look"]
        result = {
            "state": course.ended or "on trial",
            "canary": release_name(course.trial.canary),
            "production": release_name(course.trial.production),
            "percent": course.share / 100,
            "last_look": looks[-1] if looks else None,
            "acts": [{name: value for name, value in one.items() if name != "places"} for one in acts[-20:]],
        }
        lines = [(name, str(result[name])) for name in ("state", "canary", "production", "percent")]
        if looks and not course.ended:
            lines.append(("waits for", looks[-1]["waits"]))
            lines += [
                (one["test"], f"{one['log_wealth']:+.1f} of {one['threshold']:.1f} nats: {one['reason']}")
                for one in looks[-1]["findings"]
            ]
        lines += [(_moment(one["at_us"]), _act_in_words(one)) for one in acts[-8:]]
    ago_s = time.time() - looked_us / 1e6
    result |= {"looked_at_us": looked_us or None, "logs": logs}
    lines.append(("last look", f"{_moment(looked_us)}, {ago_s:,.0f} s ago" if looked_us else "never"))
    lines += [("log", _log_in_words(one)) for one in logs]
    emit(result, as_json, table=lines)
    if within_s is not None and ago_s > within_s:
        raise SystemExit(1)


def _log_in_words(log: dict[str, Any]) -> str:
    """One log in one line."""
    seen = _moment(log["last_answer_us"]) if log["last_answer_us"] else "never"
    parts = [f"{log['rows']:,} rows", f"lag {log['lag_seconds']:.1f} s", f"last answer {seen}"]
    for name, what in (("unlogged_answers", "not in it"), ("missed_frames", "frames missed")):
        if log[name]:
            parts.append(f"{log[name]:,} {what}")
    return f"{log['log']}: {log['trouble'] or log['state']}; {', '.join(parts)}"


def _act_in_words(act: dict[str, Any]) -> str:
    share = act.get("share") or 0
    words = (act["kind"], act.get("action", ""), f"{share / 100:g}%" if share else "", act.get("reason", ""))
    return " ".join(word for word in words if word)


def _moment(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
