"""The picture as one JSON document: what the status page shows, and what /healthz answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final

from drift_sidecar import traffic
from drift_sidecar.alerts import State
from drift_sidecar.metrics import EFFECTS, decision_shares
from drift_sidecar.picture import Picture, ReleasePicture, Series, Timeline
from drift_sidecar.quality import LABEL_SERIES
from drift_sidecar.settings import SidecarSettings
from fraud_scoring import wire
from fraud_scoring.decision_log.batches import MINUTE_US, Int64
from fraud_scoring.releases import release_name

_SOURCES: Final = len(wire.Source)


def troubles(picture: Picture, now: float, most_lag_s: float) -> list[str]:
    """Why the sidecar is not well, one line each; `now` is of the picture's monotonic clock."""
    found = []
    progress = picture.progress
    if (age := now - progress.made_at) > most_lag_s:
        found.append(f"nothing has been looked at for {age:.0f} s")
    if (age := now - progress.checkpoint_at) > most_lag_s:
        found.append(f"the last checkpoint is {age:.0f} s old")
    for lag in progress.lags:
        if lag.damage:
            found.append(lag.damage)
        elif lag.seconds > most_lag_s:
            found.append(f"writer {lag.writer}: the count is {lag.seconds:.0f} s and {lag.bytes:,} bytes behind")
    return found


def status_document(picture: Picture, now: float, settings: SidecarSettings) -> dict[str, Any]:
    """Everything that the page shows; times are ISO 8601 in UTC, or seconds since 1970 where a name ends in _s."""
    found = troubles(picture, now, settings.most_lag_s)
    return {
        "at": _iso(picture.at_us // 1_000_000),
        "healthy": not found,
        "troubles": found,
        "summary": _summary(picture),
        "hour": _timeline(picture.hour),
        "day": _timeline(picture.day),
        "releases": [_release(release) for release in _busiest_first(picture)],
        "alerts": _alerts(picture),
        "false_pages_per_month": settings.false_pages_per_month,
        "pages": [
            {
                "release": release_name(page.release),
                "series": page.series,
                "at": _iso(page.minute * 60),
                "since": _iso(page.since_minute * 60),
                "reason": page.reason,
            }
            for page in reversed(picture.pages)
        ],
        "writers": [
            {
                "writer": lag.writer,
                "lag_seconds": lag.seconds,
                "lag_bytes": lag.bytes,
                "last_frame": _iso(lag.written_at_us // 1_000_000) if lag.written_at_us else None,
                "damage": lag.damage,
                "missed_frames": lag.missed_frames,
            }
            for lag in picture.progress.lags
        ],
        "log_free_bytes": picture.progress.log_free_bytes,
        "checkpoint": {
            "age_seconds": max(0.0, now - picture.progress.checkpoint_at),
            "bytes": picture.progress.checkpoint_bytes,
            "rows_counted": picture.rows,
            "outcomes_sampled_one_of": picture.sampled_one_of,
        },
    }


def _summary(picture: Picture) -> dict[str, Any]:
    """The figures at the top: the last five whole minutes, and this hour."""
    recent = picture.hour.flow[-6:-1]
    minutes = max(1, int((recent[:, traffic.ANSWERS.start] > 0).sum()))
    front_door = traffic.FRONT_DOOR.of(picture.hour.flow[-6:].sum(axis=0))
    mix = picture.hour.mix.sum(axis=0)
    sources = traffic.MIX.of(mix).reshape(-1, _SOURCES).sum(axis=0)
    flow = picture.hour.flow.sum(axis=0)
    return {
        "per_second": int(recent[:, traffic.ANSWERS.start].sum()) / (60 * minutes),
        "p50_ms": _ms(front_door, 0.5),
        "p99_ms": _ms(front_door, 0.99),
        "decisions": decision_shares(mix) if sources.any() else None,
        "degraded_share": float(sources[list(wire.DEGRADED)].sum() / sources.sum()) if sources.any() else None,
        "late_share": float(traffic.LATE.of(flow)[0] / front_answers) if (front_answers := _answers(flow)) else None,
        "hour": {
            "transactions": int(traffic.ANSWERS.of(flow)[0]),
            "repeats": int(traffic.REPEATS.of(flow)[0]),
            "refused_requests": int(traffic.REFUSED.of(flow)[0]),
            "failed_requests": int(traffic.FAILED.of(flow)[0]),
            "gap_answers": int(traffic.GAP_ANSWERS.of(flow)[0]),
            "labels_fraud": int(traffic.LABELS.of(flow)[1]),
            "labels_legitimate": int(traffic.LABELS.of(flow)[0]),
        },
        "transactions_in_all": int(traffic.ANSWERS.of(picture.flow)[0]),
    }


def _timeline(timeline: Timeline) -> dict[str, Any]:
    decisions = traffic.MIX.of(timeline.mix).reshape(len(timeline.mix), -1, _SOURCES)
    return {
        "start_s": timeline.start * 60,
        "step_s": timeline.step * 60,
        "transactions": traffic.ANSWERS.of(timeline.flow)[:, 0].tolist(),
        "p50_ms": [_ms(row, 0.5) for row in traffic.FRONT_DOOR.of(timeline.flow)],
        "p99_ms": [_ms(row, 0.99) for row in traffic.FRONT_DOOR.of(timeline.flow)],
        "decisions": {decision.name.lower(): decisions[:, decision].sum(axis=1).tolist() for decision in wire.Decision},
        "degraded": decisions[:, :, list(wire.DEGRADED)].sum(axis=(1, 2)).tolist(),
    }


def _busiest_first(picture: Picture) -> list[ReleasePicture]:
    """Releases by how much they decided in the last hour."""

    def busy(release: ReleasePicture) -> tuple[int, int]:
        mix = release.mix_by_window.get("1h")
        return (0 if mix is None else int(traffic.MIX.of(mix).sum()), release.last_minute)

    return sorted(picture.releases, key=busy, reverse=True)


def _release(release: ReleasePicture) -> dict[str, Any]:
    last_hour = release.mix_by_window.get("1h")
    reference = release.reference
    return {
        "release": release_name(release.release),
        "last_decision": _iso(release.last_minute * 60),
        "transactions": int(traffic.MIX.of(release.mix).sum()),
        "transactions_1h": 0 if last_hour is None else int(traffic.MIX.of(last_hour).sum()),
        "decisions": {window: decision_shares(mix) for window, mix in release.mix_by_window.items()},
        "reference_decisions": None
        if reference is None
        else {
            decision.name.lower(): int(reference.decisions[decision]) / max(1, reference.rows)
            for decision in wire.Decision
        },
        "mismatch": release.mismatch,
        "performance": dict(release.performance),
        "trend_minutes": release.trend_minutes,
        "series": [_series(series) for series in release.series],
    }


def _series(series: Series) -> dict[str, Any]:
    finding = series.finding
    return {
        "series": series.name,
        "state": finding.state.name.lower(),
        "log10_evidence": finding.log10_evidence,
        "log10_threshold": finding.log10_threshold,
        "reason": finding.reason,
        "missing": dict(series.missing),
        "effects": {
            window: {
                "rows": effect.rows,
                **{name: _finite(getattr(effect, name)) for name in (*EFFECTS, "psi_expected", "psi_threshold")},
            }
            for window, effect in series.effects.items()
        },
        "trend": list(series.trend),
    }


def _alerts(picture: Picture) -> list[dict[str, Any]]:
    """What holds now, the newest change first."""
    now_minute = picture.at_us // MINUTE_US
    found = [
        {
            "release": release_name(release.release),
            "series": series.name,
            "since": _iso((now_minute - round(series.finding.since_minutes)) * 60),
            "reason": series.finding.reason or "the change is smaller than it was, and not over",
        }
        for release in picture.releases
        for series in release.series
        if series.finding.state == State.ALERT
    ]
    found += [
        {
            "release": release_name(release.release),
            "series": LABEL_SERIES,
            "since": _iso(release.labels.since_minute * 60),
            "reason": release.labels.reason,
        }
        for release in picture.releases
        if release.labels is not None and release.labels.alert
    ]
    return sorted(found, key=lambda alert: alert["since"], reverse=True)


def _answers(flow: Int64) -> int:
    return int(traffic.ANSWERS.of(flow)[0] + traffic.REPEATS.of(flow)[0])


def _ms(histogram: Int64, share: float) -> float | None:
    found = traffic.quantile_us(histogram, traffic.FRONT_DOOR_US, share)
    return None if found is None else found / 1000


def _finite(value: float) -> float | None:
    """The value, if JSON can hold it."""
    return value if math.isfinite(value) else None


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def health_document(picture: Picture, now: float, settings: SidecarSettings) -> tuple[int, Mapping[str, Any]]:
    """(HTTP status, what /healthz says)."""
    found = troubles(picture, now, settings.most_lag_s)
    return (503 if found else 200), {"healthy": not found, "troubles": found}
