"use strict";
const CAUSES = ["injected", "publish", "unroll", "outbox", "transport", "queue", "batch"];
const ACCOUNTS = ["produced", "admitted", "rejected", "lost", "trained", "expired", "evicted", "discarded", "queued", "duplicates"];
const POINTS_MAX = 600;
const by = (id) => document.getElementById(id);
const DASH = "\u2013";

// Numbers as people read them; what has no value is a dash.
function number(value, digits = 3) {
  if (value === undefined || value === null || !Number.isFinite(value)) return DASH;
  if (Number.isInteger(value) || Math.abs(value) >= 1e5) return Math.round(value).toLocaleString("en");
  return value.toLocaleString("en", { maximumSignificantDigits: digits });
}
const percent = (value) => (value === undefined || value === null ? DASH : `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`);
function duration(seconds) {
  if (seconds === undefined || seconds === null) return DASH;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
// Only changed text is written: screen readers hear of changes, not of every event.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
// Rows of [name, cell ...]; a cell is text, or a share to be drawn as a bar.
function rows(id, lines) {
  const body = by(id).tBodies[0];
  while (body.rows.length > lines.length) body.deleteRow(-1);
  lines.forEach((line, at) => {
    let row = body.rows[at];
    if (!row) {
      row = body.insertRow();
      line.forEach((_, column) => {
        const cell = document.createElement(column === 0 ? "th" : "td");
        if (column === 0) cell.scope = "row";
        row.append(cell);
      });
    }
    line.forEach((value, column) => {
      const cell = row.cells[column];
      if (typeof value !== "object") return say(cell, value);
      if (!cell.firstChild) {
        cell.className = "bar";
        cell.setAttribute("aria-hidden", "true");
        cell.append(document.createElement("i"));
      }
      cell.firstChild.style.width = `${100 * value.share}%`;
    });
  });
}

// === Charts: SVG, drawn anew at each event; the caption says the same in words ===
const SVG = "http://www.w3.org/2000/svg";
const [W, H, LEFT, BOTTOM, TOP] = [480, 200, 52, 24, 10];
function element(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}
function ticks(low, high) {
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) found.push(tick);
  return found;
}
const short = (value) => {
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)} M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)} k`;
  return String(+value.toPrecision(4));
};
function frame(id, label, xs, low, high) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  by(id).replaceChildren(svg);
  const right = Math.max(xs[xs.length - 1] ?? 1, 1e-9);
  if (high <= low) high = low + (Math.abs(low) || 1);
  const x = (value) => LEFT + ((W - LEFT - 12) * value) / right;
  const y = (value) => H - BOTTOM - ((H - BOTTOM - TOP) * (value - low)) / (high - low);
  for (const tick of ticks(low, high)) {
    element(svg, "line", { x1: LEFT, x2: W - 12, y1: y(tick), y2: y(tick), stroke: "var(--grid)" });
    element(svg, "text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, short(tick));
  }
  for (const tick of ticks(0, right)) element(svg, "text", { x: x(tick), y: H - 6, "text-anchor": "middle" }, short(tick));
  return { svg, x, y };
}
function line(chart, xs, values, colour, dashes = "") {
  let path = "";
  let pen = "M";
  values.forEach((value, at) => {
    if (value === null || !Number.isFinite(value)) return void (pen = "M");
    path += `${pen}${chart.x(xs[at]).toFixed(1)} ${chart.y(value).toFixed(1)}`;
    pen = "L";
  });
  element(chart.svg, "path", { d: path, fill: "none", stroke: `var(--s${colour})`, "stroke-width": 2, "stroke-dasharray": dashes, "stroke-linejoin": "round" });
}
function area(chart, xs, lower, upper, colour) {
  const forth = xs.map((x, at) => `${chart.x(x).toFixed(1)} ${chart.y(upper[at]).toFixed(1)}`);
  const back = xs.map((x, at) => `${chart.x(x).toFixed(1)} ${chart.y(lower[at]).toFixed(1)}`).reverse();
  element(chart.svg, "path", { d: `M${forth.concat(back).join("L")}Z`, fill: `var(--s${colour})`, stroke: "var(--paper)", "stroke-width": 0.5 });
}

// === The course of the run: [wall_s, step, return, ess, clip, queue, lag, causes ...] ===
let points = [];
function keep(metrics) {
  const value = (name) => metrics[name] ?? null;
  const step = value("global_step");
  if (step === null || (points.length && points[points.length - 1][1] === step)) return;
  points.push([value("charts/wall_s"), step, value("charts/episodic_return"), value("health/ess"), value("losses/clipfrac"), value("queue/fill"), value("lag/versions_mean"), ...CAUSES.map((cause) => value(`lag/${cause}`))]);
  if (points.length > POINTS_MAX) points = points.filter((_, at) => at % 2 === 0 || at === points.length - 1);
}
function range(values) {
  const known = values.filter((value) => value !== null && Number.isFinite(value));
  return known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
}
const words = (what, values, show = number) => {
  const [low, high] = range(values);
  const known = values.filter((value) => value !== null);
  return known.length ? `${what}: ${show(known[known.length - 1])} now, between ${show(low)} and ${show(high)} so far; time in seconds.` : `${what}: not known yet.`;
};
function draw() {
  const xs = points.map((point) => point[0]);
  const column = (at) => points.map((point) => point[at]);
  const returns = column(2);
  const [low, high] = range(returns);
  let text = words("Return", returns);
  line(frame("c-return", text, xs, Math.min(low, 0), Math.max(high, 0)), xs, returns, 0);
  say(by("t-return"), text);

  const rates = points.map((point, at) => {
    const before = points[Math.max(0, at - 2)];
    return point[0] > before[0] ? (point[1] - before[1]) / (point[0] - before[0]) : null;
  });
  text = words("Steps per second", rates);
  line(frame("c-sps", text, xs, 0, range(rates)[1]), xs, rates, 2);
  say(by("t-sps"), text);

  const lags = column(6);
  text = words("Lag in versions", lags);
  const chart = frame("c-lag", text, xs, 0, Math.max(range(lags)[1], 1));
  let lower = points.map(() => 0);
  CAUSES.forEach((_, cause) => {
    const upper = points.map((point, at) => lower[at] + (point[7 + cause] ?? 0));
    if (points.some((point) => point[7 + cause] > 0)) area(chart, xs, lower, upper, cause);
    lower = upper;
  });
  say(by("t-lag"), text);

  const health = frame("c-health", "Effective sample size and share of the queue that is taken", xs, 0, 1);
  line(health, xs, column(3), 0);
  line(health, xs, column(5), 1, "6 3");
  say(by("t-health"), `${words("Effective sample size", column(3), percent)} ${words("Queue", column(5), percent)}`);
}

function tiles(status) {
  const m = status.metrics;
  const recent = points.slice(-4);
  const [a, b] = [recent[0], recent[recent.length - 1]];
  const rate = recent.length > 1 && b[0] > a[0] ? (b[1] - a[1]) / (b[0] - a[0]) : m["charts/SPS"];
  const shown = [
    ["mean return, 100 episodes", number(m["charts/episodic_return"], 4)],
    ["steps per second", number(rate === undefined ? undefined : Math.round(rate))],
    ["lag, mean versions", number(m["lag/versions_mean"])],
    ["lag, 95th percentile", number(m["lag/versions_p95"])],
    ["predicted lag", number(m["lag/predicted"])],
    ["effective sample size", percent(m["health/ess"])],
    ["clipped", percent(m["losses/clipfrac"])],
    ["queue taken", percent(m["queue/fill"])],
    ["actors", number(status.present)],
    ["updates", number(m["charts/updates"])],
    ["running for", duration(m["charts/wall_s"])],
    ["last update", status.last_update_s === null ? DASH : `${duration(status.last_update_s)} ago`],
  ];
  const list = by("tiles");
  if (!list.children.length) {
    for (const [name] of shown) {
      const tile = document.createElement("div");
      const term = document.createElement("dt");
      term.textContent = name;
      tile.append(term, document.createElement("dd"));
      list.append(tile);
    }
  }
  shown.forEach(([, value], at) => say(list.children[at].lastChild, value));
}

function show(status) {
  const { run, metrics: m } = status;
  document.title = `${run.environment} ${DASH} Springbok`;
  say(by("environment"), run.environment);
  say(by("identity"), `run ${run.run_id}, seed ${run.seed}, on ${run.device}, springbok ${run.version}`);
  phase(status.phase, status.phase === "serving" ? "good" : "");
  const step = m["global_step"] ?? 0;
  by("progress").value = Math.min(1, step / run.total_steps);
  say(by("steps"), `${number(step)} of ${number(run.total_steps)} steps`);
  const cut = status.bottleneck.indexOf(" (");
  say(by("verdict"), cut < 0 ? status.bottleneck : status.bottleneck.slice(0, cut));
  say(by("evidence"), cut < 0 ? "" : status.bottleneck.slice(cut + 2, -1));
  keep(m);
  tiles(status);
  draw();
  const all = status.lag_histogram.reduce((sum, bin) => sum + bin.steps, 0) || 1;
  rows("buckets", status.lag_histogram.map(({ bucket, steps }) => {
    const of = (name) => m[`lag_bucket/${bucket}/${name}`];
    return [bucket, number(steps), percent(steps / all), { share: steps / all }, number(of("ess")), percent(of("clip_fraction")), number(of("k3")), percent(of("rho_saturation")), number(of("abs_advantage"))];
  }));
  rows("causes", CAUSES.map((cause) => [cause, number(m[`lag/${cause}`]), number(m[`lag/seconds_${cause}`])]));
  const unlisted = status.present - status.actors.length;
  say(by("lives"), `${number(status.present)} present; ${number(status.lives.joined)} joined so far, ${number(status.lives.lost)} lost${unlisted > 0 ? `; ${number(unlisted)} more are not listed` : ""}`);
  roster = status.actors;
  actors();
  say(by("closes"), status.ledger_closes ? "Closes: every unroll is accounted for." : "DOES NOT CLOSE: a defect of the learner.");
  const reasons = Object.entries(status.rejected).map(([reason, unrolls]) => [`rejected: ${reason}`, number(unrolls)]);
  rows("ledger", ACCOUNTS.map((account) => [account, number(status.ledger[account])]).concat(reasons));
  const log = by("log");
  const follows = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
  if (status.log.length) say(log, status.log.join("\n"));
  if (follows) log.scrollTop = log.scrollHeight;
  if (by("metrics-all").open) rows("metrics", Object.entries(m).map(([name, value]) => [name, number(value, 6)]));
}
// The roster: a large run has more actors than anyone reads, and than a page should hold.
const ROWS_MAX = 100;
const ORDERS = {
  place: (a, b) => a.actor - b.actor,
  behind: (a, b) => b.lag_versions - a.lag_versions,
  silent: (a, b) => b.last_seen_s - a.last_seen_s,
  slow: (a, b) => a.unrolls_per_s - b.unrolls_per_s,
};
let roster = [];
function actors() {
  const wanted = by("find").value.trim();
  const found = roster.filter((actor) => String(actor.actor).startsWith(wanted)).sort(ORDERS[by("order").value]);
  const shown = found.slice(0, ROWS_MAX);
  rows("actors", shown.map((actor) => [String(actor.actor), number(actor.version), number(actor.lag_versions), number(actor.unrolls), number(actor.unrolls_per_s), `${duration(actor.last_seen_s)} ago`]));
  say(by("listed"), shown.length < roster.length ? `${number(shown.length)} of ${number(roster.length)} shown` : "");
}
by("order").addEventListener("change", actors);
by("find").addEventListener("input", actors);

function phase(text, kind) {
  by("phase").className = `badge ${kind}`;
  say(by("phase"), text);
}

CAUSES.forEach((cause, at) => {
  const item = document.createElement("li");
  const key = document.createElement("i");
  key.className = `k${at}`;
  item.append(key, cause);
  by("legend").append(item);
});

// === Asking: with a token where the learner wants one. It comes in the fragment of the address, which no browser sends,
// or from whoever looks, and goes into a header. ===
const KEY = "springbok-token";
let token = sessionStorage.getItem(KEY) ?? "";
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given !== null) {
  token = given;
  sessionStorage.setItem(KEY, token);
  history.replaceState(null, "", location.pathname);
}
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
async function ask(path) {
  for (;;) {
    const answer = await fetch(path, token ? { headers: { Authorization: `Bearer ${token}` } } : {});
    if (answer.status !== 401) return answer;
    await askForToken();
  }
}
let asking = null;
function askForToken() {
  asking ??= new Promise((done) => {
    phase(token ? "the token is not valid" : "a token is needed", "bad");
    by("ask").hidden = false;
    by("token").focus();
    by("ask").onsubmit = (event) => {
      event.preventDefault();
      token = by("token").value.trim();
      sessionStorage.setItem(KEY, token);
      by("token").value = "";
      by("ask").hidden = true;
      asking = null;
      done();
    };
  });
  return asking;
}
// Server-sent events, read by hand: an EventSource can send no header.
async function follow() {
  const answer = await ask("/events");
  if (!answer.ok) throw new Error(await answer.text());
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      if (text.startsWith("data: ")) show(JSON.parse(text.slice(6, end)));
    }
  }
}
async function main() {
  try {
    points = (await (await ask("/history")).json()).points;
    say(by("config"), await (await ask("/config")).text());
  } catch {}
  for (;;) {
    try {
      await follow();
    } catch {}
    phase("no connection: the run has ended, or the learner is gone; trying again", "bad");
    await pause(3000);
  }
}
main();
