"use strict";
// Draws /api/status, anew every few seconds; figures.js has the means.

const EVERY_MS = 5000;
const DECISIONS = ["approve", "review", "decline"];
const PERFORMANCE = {
  estimated_precision: "estimated precision", estimated_recall: "estimated recall",
  realised_precision: "realised precision", realised_recall: "realised recall",
  calibration_error: "calibration error",
};
let range = "hour";
let last = null;

const byId = (id) => document.getElementById(id);

function showTop(status) {
  byId("health").textContent = status.healthy ? "well" : "not well";
  byId("health").className = "chip " + (status.healthy ? "good" : "bad");
  byId("at").textContent = status.at.slice(0, 19).replace("T", " ");
  fill(byId("troubles"), ...status.troubles.map((text) => make("p", { class: "notice" }, text)));
  const main = status.releases[0];
  byId("release").hidden = !main;
  byId("release").textContent = main ? main.release : "";
  const watched = main ? main.series.length : 0;
  fill(byId("alerts"), ...(status.alerts.length
    ? status.alerts.map((alert) => make("div", { class: "alert" },
      make("strong", {}, alert.series), make("span", { class: "chip bad" }, alert.release),
      make("p", {}, alert.reason), make("p", { class: "muted" }, "has moved since about " + when(alert.since))))
    : [make("p", { class: "quiet" }, watched
      ? `None. ${watched} series of ${main.release} are watched; at most ${status.false_pages_per_month} false alert` +
        (status.false_pages_per_month === 1 ? "" : "s") + " a month is accepted."
      : "None: there is nothing to compare yet.")]));
}

function showPast(pages) {
  const past = byId("past");
  past.hidden = !pages.length;
  past.querySelector("summary").textContent = "Alerts that began, the last first: " + pages.length;
  fill(past.querySelector("div"), ...pages.map((page) => make("p", {}, when(page.at) + " ",
    make("b", {}, page.series), " of " + page.release + ": " + page.reason)));
}

function card(name, figure, unit, note, bad = false) {
  return make("div", { class: bad ? "card bad" : "card" }, make("div", { class: "name" }, name),
    make("div", { class: "figure" }, figure, unit ? make("small", {}, " " + unit) : null),
    make("div", { class: "note" }, note));
}

function showCards(summary) {
  const shares = summary.decisions || {};
  fill(byId("cards"), 
    card("Transactions", summary.per_second >= 100 ? summary.per_second.toFixed(0) : summary.per_second.toFixed(1), "per second",
      whole(summary.hour.transactions) + " in the last hour"),
    card("Front door p50", plain(summary.p50_ms, 1), "ms", "last 5 minutes"),
    card("Front door p99", plain(summary.p99_ms, 1), "ms", "promised: below 100 ms", summary.p99_ms > 100),
    card("Declined", percent(shares.decline), "", "reviewed " + percent(shares.review) + ", last hour"),
    card("Degraded", percent(summary.degraded_share), "", "answered by a fallback, last hour", summary.degraded_share > 0.01),
    card("Late", percent(summary.late_share), "", "after the caller's deadline, last hour", summary.late_share > 0.001),
    card("Failed", whole(summary.hour.failed_requests), "requests",
      whole(summary.hour.refused_requests) + " refused as invalid, last hour", summary.hour.failed_requests > 0),
    card("Labels", whole(summary.hour.labels_fraud + summary.hour.labels_legitimate), "",
      whole(summary.hour.labels_fraud) + " of fraud, last hour"));
}

function showCharts(status) {
  const timeline = status[range];
  byId("volume-unit").textContent = timeline.step_s === 60 ? "a minute" : `in ${timeline.step_s / 60} minutes`;
  const color = { approve: "approve", review: "review", decline: "decline" };
  chart(byId("volume"), timeline,
    DECISIONS.map((name) => ({ name, color: color[name], values: timeline.decisions[name] })), { bars: true });
  chart(byId("latency"), timeline, [
    { name: "p50", color: "approve", values: timeline.p50_ms },
    { name: "p99", color: "review", values: timeline.p99_ms },
  ], { digits: 1, unit: " ms", limit: 100 });
  const share = (name) => timeline.decisions[name].map((count, at) => {
    const total = DECISIONS.reduce((sum, one) => sum + timeline.decisions[one][at], 0);
    return total ? (100 * count) / total : null;
  });
  chart(byId("mix"), timeline, [
    { name: "review", color: "review", values: share("review") },
    { name: "decline", color: "decline", values: share("decline") },
  ], { digits: 2, unit: "%" });
}

function facts(release) {
  const items = [make("span", {}, "last hour ", make("b", {}, whole(release.transactions_1h)))];
  const seen = release.decisions["1h"], foreseen = release.reference_decisions;
  if (seen) {
    for (const name of ["review", "decline"]) {
      items.push(make("span", {}, name + " ", make("b", {}, percent(seen[name])),
        foreseen ? ` (reference ${percent(foreseen[name])})` : ""));
    }
  }
  for (const [name, text] of Object.entries(PERFORMANCE)) {
    if (name in release.performance) {
      items.push(make("span", {}, text + " ", make("b", {}, plain(release.performance[name], 3))));
    }
  }
  items.push(make("span", {}, "last decision ", make("b", {}, when(release.last_decision))));
  return make("p", { class: "facts" }, ...items);
}

function meter(value, threshold) {
  const share = Math.max(0, Math.min(1, value / threshold));
  const color = share >= 1 ? "decline" : share > 0.6 ? "review" : "muted";
  return make("span", { class: "meter" }, draw("svg", { viewBox: "0 0 64 6", "aria-hidden": "true" },
    draw("rect", { class: "fill c-" + color, x: 0, y: 0, height: 6, width: (64 * share).toFixed(1) })));
}

// emphasised where there is evidence, and more than chance and what is tolerated would explain
function psi(series, window) {
  const effect = series.effects[window];
  if (!effect) return make("td", {}, "–");
  const title = `${whole(effect.rows)} rows; chance alone gives about ${plain(effect.psi_expected, 3)}`;
  const beyond = series.state !== "ok" && effect.psi > effect.psi_threshold;
  return make("td", { class: beyond ? "beyond" : "muted", title }, plain(effect.psi, 3));
}

const STATES = { ok: ["", "steady"], evidence: ["warn", "moved, small"], alert: ["bad", "alert"] };

function seriesRow(release, series) {
  const effect = (window, name, digits) => series.effects[window] ? plain(series.effects[window][name], digits) : "–";
  const [tone, word] = STATES[series.state];
  const span = release.trend_minutes === 60 ? "24 hours" : "2 hours";
  return make("tr", series.state === "alert" ? { class: "alerting" } : {},
    make("th", { scope: "row" }, series.series),
    make("td", { class: "left" }, make("span", { class: "chip " + tone, title: series.reason }, word)),
    make("td", {}, sparkline(series.trend, series.state === "alert", `PSI of ${series.series} over the last ${span}`)),
    psi(series, "5m"), psi(series, "1h"), psi(series, "1d"),
    make("td", {}, effect("1h", "ks", 3)), make("td", {}, effect("1h", "wasserstein", 2)),
    make("td", {}, "1h" in series.missing ? percent(series.missing["1h"]) : "–"),
    series.state === "ok"
      ? make("td", {}, meter(series.log10_evidence, series.log10_threshold),
        plain(Math.max(0, series.log10_evidence), 1) + " / " + plain(series.log10_threshold, 1))
      : make("td", {}, meter(1, 1), "crossed " + plain(series.log10_threshold, 1)));
}

function releaseBlock(release) {
  const head = make("div", { class: "row" }, make("h2", {}, "Release " + release.release + " against its reference"));
  if (!release.series.length) {
    return make("div", {}, head, facts(release),
      make("p", { class: "quiet" }, "Drift is not told: " + (release.mismatch || "nothing has been compared yet") + "."));
  }
  const rank = { alert: 0, evidence: 1, ok: 2 };
  const rows = [...release.series].sort((a, b) => rank[a.state] - rank[b.state] || b.log10_evidence - a.log10_evidence);
  const span = release.trend_minutes === 60 ? "24 hours" : "2 hours";
  const columns = [["Series", ""], ["State", "left"], ["PSI, last " + span, ""], ["PSI 5 min", ""], ["PSI 1 h", ""],
    ["PSI 1 day", ""], ["KS 1 h", ""], ["Wasserstein 1 h, sd", ""], ["Missing 1 h", ""], ["Evidence, log10", ""]];
  return make("div", {}, head, facts(release), make("div", { class: "table" }, make("table", {},
    make("thead", {}, make("tr", {}, ...columns.map(([name, left]) => make("th", { scope: "col", class: left }, name)))),
    make("tbody", {}, ...rows.map((series) => seriesRow(release, series))))));
}

function showReleases(releases) {
  const recent = releases.filter((release) => release.transactions_1h > 0);
  const shown = recent.length ? recent : releases.slice(0, 1);
  const others = releases.filter((release) => !shown.includes(release));
  fill(byId("releases"), ...shown.map(releaseBlock),
    others.length ? make("p", { class: "muted" }, "Silent in the last hour: " +
      others.map((release) => `${release.release} (last ${when(release.last_decision)})`).join(", ")) : null);
}

function showLog(status) {
  const kept = status.checkpoint;
  const line = make("p", { class: "facts" },
    make("span", {}, "checkpoint ", make("b", {}, duration(kept.age_seconds)), " old, ", make("b", {}, size(kept.bytes))),
    make("span", {}, "rows counted ", make("b", {}, whole(kept.rows_counted))),
    kept.outcomes_sampled_one_of > 1
      ? make("span", {}, "labels joined for one id of ", make("b", {}, whole(kept.outcomes_sampled_one_of))) : null);
  if (!status.writers.length) {
    fill(byId("log"), line, make("p", { class: "quiet" }, "No writer has written into the log yet."));
    return;
  }
  const head = ["Writer", "State", "Lag", "Behind", "Last frame", "Frames missed"];
  const rows = status.writers.map((one) => make("tr", one.damage ? { class: "alerting" } : {},
    make("th", { scope: "row" }, one.writer),
    make("td", { class: "left" }, make("span", { class: "chip " + (one.damage ? "bad" : "good"), title: one.damage },
      one.damage ? "damaged" : "read")),
    make("td", {}, duration(one.lag_seconds)), make("td", {}, size(one.lag_bytes)),
    make("td", {}, when(one.last_frame)), make("td", {}, whole(one.missed_frames))));
  fill(byId("log"), line, make("div", { class: "table" }, make("table", {},
    make("thead", {}, make("tr", {}, ...head.map((name, at) => make("th", { scope: "col", class: at === 1 ? "left" : "" }, name)))),
    make("tbody", {}, ...rows))));
}

function show(status) {
  showTop(status);
  showPast(status.pages);
  showCards(status.summary);
  showCharts(status);
  showReleases(status.releases);
  showLog(status);
}

async function refresh() {
  try {
    const answer = await fetch("api/status", { cache: "no-store" });
    if (!answer.ok) throw new Error("status " + answer.status);
    last = await answer.json();
    document.querySelector("main").classList.remove("stale");
    show(last);
    document.body.dataset.ready = "yes";
  } catch (error) {
    byId("health").textContent = "no answer";
    byId("health").className = "chip bad";
    document.querySelector("main").classList.add("stale");
  }
  setTimeout(refresh, EVERY_MS);
}

document.querySelector(".switch").addEventListener("click", (event) => {
  const chosen = event.target.dataset.range;
  if (!chosen) return;
  range = chosen;
  for (const button of document.querySelectorAll(".switch button")) {
    button.setAttribute("aria-pressed", String(button.dataset.range === chosen));
  }
  if (last) showCharts(last);
});

refresh();
