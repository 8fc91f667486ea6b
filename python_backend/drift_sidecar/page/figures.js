"use strict";
// Elements, figures in words, and charts. Everything that comes from outside is set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

function fill(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null));
}

function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// figures in words

const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 16);
const when = (iso) => (iso ? iso.slice(0, 16).replace("T", " ") : "never");
const whole = (value) => value.toLocaleString("en-US");

function plain(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && Math.abs(value) < 10 ** -digits) return "<" + (10 ** -digits).toFixed(digits);
  return value.toFixed(digits);
}

function percent(share, digits = 2) {
  return share === null || share === undefined ? "–" : plain(100 * share, digits) + "%";
}

function compact(value) {
  if (value >= 1e6) return (value / 1e6).toFixed(value >= 1e7 ? 0 : 1) + "M";
  if (value >= 1e4) return (value / 1e3).toFixed(0) + "k";
  if (value >= 1e3) return (value / 1e3).toFixed(1) + "k";
  return String(value);
}

function size(bytes) {
  if (bytes >= 1 << 20) return (bytes / (1 << 20)).toFixed(1) + " MB";
  return bytes >= 1024 ? (bytes / 1024).toFixed(1) + " kB" : bytes + " B";
}

function duration(seconds) {
  if (seconds < 60) return seconds.toFixed(1) + " s";
  if (seconds < 7200) return Math.round(seconds / 60) + " min";
  return (seconds / 3600).toFixed(1) + " h";
}

// charts

function scale(most) {
  if (!(most > 0)) return { top: 1, ticks: [0, 1] };
  const rough = most / 2;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((s) => s >= rough) || 10 * power;
  const ticks = [0, step, 2 * step];
  return { top: 2 * step, ticks };
}

// series: [{name, color, values}]; stacked bars or lines over the same time steps
function chart(holder, timeline, series, { bars = false, unit = "", digits = 0, limit = null } = {}) {
  const width = 400, height = 132, left = 34, right = 4, top = 8, bottom = 18;
  const steps = timeline.transactions.length;
  const any = series.some((one) => one.values.some((value) => value !== null && value > 0));
  const legend = make("div", { class: "legend" });
  const tell = (at) => {
    fill(legend, ...series.map((one) => {
      const value = at === null ? null : one.values[at];
      const text = at === null ? "" : " " + (value === null ? "–" : bars ? whole(value) : plain(value, digits) + unit);
      return make("span", { class: "c-" + one.color }, make("i"), make("span", { class: "muted" }, one.name),
        make("b", {}, text));
    }), at === null ? null : make("span", {}, clock(timeline.start_s + at * timeline.step_s)));
  };
  tell.clear = () => fill(legend, ...series.map((one) =>
    make("span", { class: "c-" + one.color }, make("i"), make("span", { class: "muted" }, one.name))));
  tell.clear();
  if (!any) {
    fill(holder, make("p", { class: "quiet" }, "Nothing in this time."));
    return;
  }
  const totals = bars
    ? timeline.transactions.map((_, at) => series.reduce((sum, one) => sum + (one.values[at] || 0), 0))
    : series.flatMap((one) => one.values.map((value) => value || 0));
  const { top: most, ticks } = scale(Math.max(...totals));
  const x = (at) => left + (at * (width - left - right)) / steps;
  const y = (value) => height - bottom - (Math.min(value, most) * (height - top - bottom)) / most;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  const title = draw("title");
  title.textContent = series.map((one) => one.name).join(", ");
  svg.append(title);
  for (const tick of ticks) {
    const label = draw("text", { x: left - 6, y: y(tick) + 3.5, "text-anchor": "end" });
    label.textContent = tick >= 1000 ? compact(tick) : String(+tick.toPrecision(3));
    svg.append(draw("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }), label);
  }
  for (let quarter = 0; quarter <= 4; quarter++) {
    const at = (quarter * steps) / 4;
    const anchor = quarter === 4 ? "end" : quarter === 0 ? "start" : "middle";
    const label = draw("text", { x: x(at), y: height - 4, "text-anchor": anchor });
    label.textContent = clock(timeline.start_s + at * timeline.step_s);
    svg.append(label);
  }
  if (limit !== null && limit < most) {
    svg.append(draw("line", { class: "limit", x1: left, x2: width - right, y1: y(limit), y2: y(limit) }));
  }
  if (bars) {
    const gap = Math.max(0.6, x(1) - x(0) - 1.2);
    for (let at = 0; at < steps; at++) {
      let below = 0;
      for (const one of series) {
        const value = one.values[at] || 0;
        if (value) {
          svg.append(draw("rect", { class: "fill c-" + one.color, x: x(at) + 0.6, width: gap,
            y: y(below + value), height: Math.max(0.4, y(below) - y(below + value)) }));
        }
        below += value;
      }
    }
  } else {
    for (const one of series) {
      const path = one.values.map((value, at) => (value === null ? "" :
        (at === 0 || one.values[at - 1] === null ? "M" : "L") + (x(at) + (x(1) - x(0)) / 2).toFixed(1) + " " + y(value).toFixed(1)));
      svg.append(draw("path", { class: "line stroke c-" + one.color, d: path.join("") }));
      one.values.forEach((value, at) => {
        const alone = value !== null && (one.values[at - 1] ?? null) === null && (one.values[at + 1] ?? null) === null;
        if (alone) svg.append(draw("circle", { class: "fill c-" + one.color, r: 1.8, cx: x(at) + (x(1) - x(0)) / 2, cy: y(value) }));
      });
    }
  }
  const cursor = draw("line", { class: "cursor", y1: top, y2: height - bottom, visibility: "hidden" });
  svg.append(cursor);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = Math.floor((((event.clientX - box.left) / box.width) * width - left) / (x(1) - x(0)));
    if (at < 0 || at >= steps) return;
    const middle = x(at) + (x(1) - x(0)) / 2;
    cursor.setAttribute("x1", middle);
    cursor.setAttribute("x2", middle);
    cursor.setAttribute("visibility", "visible");
    tell(at);
  });
  svg.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    tell.clear();
  });
  fill(holder, legend, svg);
}

function sparkline(values, alerting, label) {
  const width = 118, height = 24;
  const most = Math.max(0.05, ...values.map((value) => value || 0));
  const svg = draw("svg", { class: "spark c-" + (alerting ? "decline" : "approve"), viewBox: `0 0 ${width} ${height}`, role: "img" });
  const title = draw("title");
  title.textContent = label;
  svg.append(title, draw("line", { class: "grid", x1: 0, x2: width, y1: height - 2, y2: height - 2 }));
  const x = (at) => 3 + (at * (width - 6)) / (values.length - 1);
  const y = (value) => height - 2 - (value * (height - 5)) / most;
  let path = "", end = null;
  values.forEach((value, at) => {
    if (value === null) return;
    path += (path && values[at - 1] !== null ? "L" : "M") + x(at).toFixed(1) + " " + y(value).toFixed(1);
    end = [x(at), y(value)];
  });
  if (end) {
    svg.append(draw("path", { class: "line stroke", d: path }),
      draw("circle", { class: "fill", r: 2.2, cx: end[0].toFixed(1), cy: end[1].toFixed(1) }));
  }
  return svg;
}
