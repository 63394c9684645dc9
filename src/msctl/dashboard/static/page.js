// The stack's page. One stream of server-sent events brings the state and the log; everything else is
// requested when it is shown. No framework and no build step.
'use strict';

// --- small tools ---------------------------------------------------------------------------------

const $ = (id) => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';

function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name in node && !name.includes('-') && name !== 'list') node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function svg(tag, props = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Only changed nodes are touched, so that focus, selection and screen readers keep their place.
function put(node, text) { if (node.textContent !== text) node.textContent = text; }
function mark(node, name) { if (node.className !== name) node.className = name; }

const plural = (n, one, many = one + 's') => `${n.toLocaleString('en')} ${n === 1 ? one : many}`;
const rate = (n) => n === null || n === undefined ? '–' : n === 0 ? '0' : n < 9.95 ? n.toFixed(1) : Math.round(n).toLocaleString('en');
const clip = (text, n) => text.length > n ? text.slice(0, n - 1) + '…' : text;

function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 0.1) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(0)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

function uptime(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  const s = Math.floor(seconds), two = (n) => String(n).padStart(2, '0');
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m${two(s % 60)}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h${two(Math.floor(s % 3600 / 60))}m`;
  return `${Math.floor(s / 86400)}d${two(Math.floor(s % 86400 / 3600))}h`;
}

function bytes(n) {
  if (n === null || n === undefined) return '–';
  for (const unit of ['B', 'KiB', 'MiB']) { if (n < 1024) return `${unit === 'B' ? n : n.toFixed(1)} ${unit}`; n /= 1024; }
  return `${n.toFixed(1)} GiB`;
}

function clock(epoch, exact = true) {
  const d = new Date(epoch * 1000), two = (n) => String(n).padStart(2, '0');
  const time = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  return exact ? `${time}.${String(d.getMilliseconds()).padStart(3, '0')}` : time;
}

const onFrame = (work) => { let asked = false; return () => { if (!asked) { asked = true; requestAnimationFrame(() => { asked = false; work(); }); } }; };

// --- state ----------------------------------------------------------------------------------------

const page = {
  snapshot: null, session: null, token: '', can: {}, view: 'overview',
  alive: false, heard: 0, disconnectedSince: 0, states: new Map(), busy: new Map(),
};
const GOOD = new Set(['ready', 'exited']);
const BAD = new Set(['unhealthy', 'fatal', 'skipped']);
const ACTIVE = new Set(['waiting', 'starting', 'running', 'ready', 'unhealthy', 'backoff', 'stopping']);
const health = (state) => GOOD.has(state) ? 'good' : BAD.has(state) ? 'bad' : state === 'stopped' ? 'off' : 'warn';
// Up, but the gateway sends no requests to an instance because its breaker is not closed.
const breakerOpen = (service) => GOOD.has(service.state) && service.instances.some((i) => i.target && i.target.breaker !== 'closed');
const condition = (service) => breakerOpen(service) ? 'warn' : health(service.state);

// --- the stream -----------------------------------------------------------------------------------

const QUIET_MS = 6000;
let stream = null, retry = 0;

async function connect() {
  clearTimeout(retry);
  if (stream) stream.close();
  stream = null;
  if (document.hidden) return;
  let session;
  try {
    page.signedOut = false;
    const answer = await fetch('/api/session', { cache: 'no-store' });
    page.signedOut = answer.status === 401;
    if (!answer.ok) throw new Error(String(answer.status));
    session = await answer.json();
  } catch { disconnected(); return; }
  if (page.session && page.session !== session.session) logs.newStack();
  const known = page.session === session.session;
  Object.assign(page, { session: session.session, token: session.token, can: session });
  document.querySelector('nav [data-view=traces]').hidden = !session.traces;
  $('queue-work').hidden = !session.queues;
  const query = new URLSearchParams({ session: page.session, after: known ? logs.last : 0 });
  stream = new EventSource(`/api/stream?${query}`);
  stream.addEventListener('state', (event) => { heard(); show(JSON.parse(event.data)); });
  stream.addEventListener('lines', (event) => { heard(); logs.take(JSON.parse(event.data)); });
  stream.addEventListener('bye', disconnected);
  stream.onerror = disconnected;
  page.heard = Date.now();
}

function heard() {
  page.heard = Date.now();
  if (page.alive) return;
  page.alive = true;
  document.body.classList.remove('stale');
  mark($('link'), 'pill live');
  const banner = $('gone');
  if (page.disconnectedSince) {
    page.disconnectedSince = 0;
    mark(banner, 'gone back');
    put(banner, 'Connected to the stack again.');
    setTimeout(() => { if (page.alive) banner.hidden = true; }, 2500);
  } else banner.hidden = true;
}

function disconnected() {
  if (stream) stream.close();
  stream = null;
  clearTimeout(retry);
  retry = setTimeout(connect, 1000);
  if (!page.disconnectedSince) page.disconnectedSince = Date.now();
  page.alive = false;
  document.body.classList.add('stale');
  mark($('link'), 'pill disconnected');
  put($('link'), 'disconnected');
  const banner = $('gone'), since = clock(page.disconnectedSince / 1000, false);
  mark(banner, 'gone');
  put(banner, page.signedOut
    ? 'This browser is not signed in to the stack. Open the link that this command prints: msctl open'
    : page.snapshot
    ? `Disconnected from the stack since ${since}. The page shows the last known state and keeps reconnecting.`
    : `No stack runs here. The page keeps reconnecting; start a stack with: msctl up`);
  banner.hidden = false;
  overview.acts();
}

setInterval(() => {
  if (document.hidden) return;
  if (page.alive && Date.now() - page.heard > QUIET_MS) disconnected();
  if (page.alive && page.snapshot) put($('link'), `live · up ${uptime(page.snapshot.uptime_s)}`);
}, 1000);
document.addEventListener('visibilitychange', () => {
  // A hidden page keeps no connection: browsers allow only a few per host.
  if (document.hidden) { if (stream) stream.close(); stream = null; clearTimeout(retry); } else connect();
});

async function act(path, body = {}) {
  const answer = await fetch(path, {
    method: 'POST', body: JSON.stringify(body), cache: 'no-store',
    headers: { 'Content-Type': 'application/json', 'X-Msctl-Token': page.token },
  }).catch(() => null);
  if (answer && answer.ok) return null;
  const problem = answer ? await answer.json().catch(() => ({ message: `the stack responded with status ${answer.status}` })) : { message: 'the stack does not respond' };
  return problem;
}

let toastTimer = 0;
function showError(problem) {
  const toast = $('toast');
  toast.replaceChildren(el('p', {}, problem.message), ...(problem.hint ? [el('p', {}, problem.hint)] : []));
  toast.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { toast.hidden = true; }, 8000);
}
$('toast').addEventListener('click', () => { $('toast').hidden = true; });
const announce = (text) => { $('announcement').textContent = text; };

function show(snapshot) {
  page.snapshot = snapshot;
  put($('project'), snapshot.project);
  const wrong = snapshot.services.filter((s) => BAD.has(s.state) || s.state === 'backoff').length;
  const title = `${wrong ? `(${wrong}) ` : ''}${snapshot.project} · msctl`;
  if (document.title !== title) document.title = title;
  put($('link'), `live · up ${uptime(snapshot.uptime_s)}`);
  for (const service of snapshot.services) {
    const before = page.states.get(service.name);
    if (before && before !== service.state) announce(`${service.name} is ${service.state}${service.reason ? ': ' + service.reason : ''}`);
    page.states.set(service.name, service.state);
  }
  choices();
  overview.show(snapshot);
  queues.show(snapshot);
}

let chosenNames = '';
function choices() {
  const names = page.snapshot.services.map((s) => s.name);
  const joined = names.join('\n');
  if (joined === chosenNames) return;
  chosenNames = joined;
  for (const [id, extra] of [['log-service', ['broker', 'msctl']], ['trace-service', []]]) {
    const select = $(id), value = select.value || select.dataset.wanted || '';
    select.replaceChildren(el('option', { value: '' }, 'All'), ...[...names, ...extra].map((n) => el('option', { value: n }, n)));
    select.value = value;
  }
}

// --- overview -------------------------------------------------------------------------------------

function sparkline(values, label) {
  const w = 96, h = 22, top = Math.max(...values, 1), step = w / Math.max(1, values.length - 1);
  const points = values.map((v, i) => `${(i * step).toFixed(1)},${(h - 1 - v / top * (h - 3)).toFixed(1)}`).join('L');
  return svg('svg', { class: 'spark', viewBox: `0 0 ${w} ${h}`, role: 'img', 'aria-label': label, preserveAspectRatio: 'none' },
    svg('path', { class: 'area', d: `M0,${h}L${points}L${w},${h}Z` }), svg('path', { d: `M${points}` }));
}

const overview = {
  rows: new Map(),

  show(snapshot) {
    this.figures(snapshot);
    this.table(snapshot);
    topology.show(snapshot);
  },

  figures(snapshot) {
    const all = snapshot.services, own = all.filter((s) => s.name !== 'gateway'), gateway = all.find((s) => s.name === 'gateway');
    // Requests through the gateway count for its services too; those it answers itself do not.
    const sum = (f) => Math.max(own.reduce((n, s) => n + (f(s) || 0), 0), gateway ? f(gateway) || 0 : 0);
    const up = all.filter((s) => GOOD.has(s.state)).length, bad = all.filter((s) => BAD.has(s.state)).length;
    const busy = all.filter((s) => health(s.state) === 'warn').length, cut = all.filter(breakerOpen).length, off = all.filter((s) => s.state === 'stopped').length;
    const measured = own.filter((s) => s.p95_s !== null);
    const slowest = measured.reduce((worst, s) => !worst || s.p95_s > worst.p95_s ? s : worst, null);
    const errors = sum((s) => s.errors_per_s), broker = snapshot.broker;
    const waiting = broker.queues ? broker.queues.reduce((n, q) => n + q.ready, 0) : null;
    const rows = [
      ['Up', String(up), `of ${all.length - off}${off ? `, ${off} stopped` : ''}`, ''],
      ['Failing', String(bad + busy + cut), bad ? plural(bad, 'service') + ' down' : busy ? 'starting or stopping' : cut ? 'breaker open' : 'none', bad ? 'bad' : busy + cut ? 'warn' : ''],
      ['Requests', rate(sum((s) => s.requests_per_s)), 'per second', ''],
      ['Errors', rate(errors), '5xx per second', errors > 0 ? 'bad' : ''],
      ['Slowest p95', slowest ? duration(slowest.p95_s) : '–', slowest ? slowest.name : 'no requests yet', ''],
      ['Broker', broker.state, waiting === null ? broker.mode : `${broker.mode}, ${waiting.toLocaleString('en')} waiting`, GOOD.has(broker.state) ? '' : broker.state === 'stopped' ? '' : 'bad'],
    ];
    const list = $('figures');
    if (list.children.length !== rows.length) list.replaceChildren(...rows.map(() => el('div', {}, el('dt'), el('dd', {}, el('span'), ' ', el('small')))));
    rows.forEach(([name, value, unit, tone], i) => {
      const cell = list.children[i];
      mark(cell, tone);
      put(cell.firstChild, name);
      put(cell.querySelector('span'), value);
      put(cell.querySelector('small'), unit);
    });
  },

  table(snapshot) {
    const body = $('services'), needle = $('find').value.trim().toLowerCase(), problems = $('problems').checked;
    $('services').parentNode.classList.toggle('unmeasured', snapshot.services.every((s) => s.memory_bytes === null));
    let shown = 0, previous = null;
    for (const service of snapshot.services) {
      let row = this.rows.get(service.name);
      if (!row) this.rows.set(service.name, row = this.make(service));
      this.update(row, service);
      const fits = (!needle || service.name.toLowerCase().includes(needle)) && (!problems || ['bad', 'warn'].includes(condition(service)));
      row.node.hidden = !fits;
      shown += fits;
      if (row.node.parentNode !== body || row.node.previousElementSibling !== previous) body.insertBefore(row.node, previous ? previous.nextSibling : body.firstChild);
      previous = row.node;
    }
    const names = new Set(snapshot.services.map((s) => s.name));
    for (const [name, row] of this.rows) if (!names.has(name)) { row.node.remove(); this.rows.delete(name); }
    $('no-services').hidden = shown > 0;
    put($('no-services'), problems && !needle ? 'No problems.' : 'No service matches.');
  },

  make(service) {
    const name = service.name, cell = (props = {}, ...children) => el('td', { role: 'cell', ...props }, ...children);
    const row = { name, seen: service.state };
    row.title = el('span', { className: 'name' });
    row.under = el('span', { className: 'under' });
    row.dot = el('span', { className: 'dot', 'aria-hidden': 'true' });
    row.word = el('span', { className: 'word' });
    row.reason = el('span', { className: 'under reason' });
    row.cells = ['Uptime', 'Restarts', 'Req/s', 'p95'].map((label) => cell({ className: 'num', 'data-label': label }));
    row.spark = cell({ 'data-label': 'Last 30 s' });
    row.cpu = cell({ className: 'num lesser', 'data-label': 'CPU' });
    row.memory = cell({ className: 'num lesser', 'data-label': 'Memory' });
    row.toggle = el('button', { type: 'button', onclick: () => this.act(row, row.verb) });
    row.restart = el('button', { type: 'button', 'aria-label': `Restart ${name}`, onclick: () => this.act(row, 'restart') }, 'Restart');
    row.count = el('output');
    row.less = el('button', { type: 'button', 'aria-label': `Remove an instance of ${name}`, onclick: () => this.scale(row, -1) }, '−');
    row.more = el('button', { type: 'button', 'aria-label': `Add an instance of ${name}`, onclick: () => this.scale(row, 1) }, '+');
    row.scaler = el('span', { className: 'scale', role: 'group', 'aria-label': `Instances of ${name}` }, row.less, row.count, row.more);
    row.node = el('tr', { role: 'row', 'data-service': name },
      cell({}, row.title, row.under), cell({}, el('span', { className: 'nowrap' }, row.dot, row.word), row.reason), ...row.cells, row.spark, row.cpu, row.memory,
      cell({}, el('div', { className: 'acts' }, row.scaler, row.toggle, row.restart)));
    return row;
  },

  update(row, service) {
    row.service = service;
    const seen = `${service.state}${breakerOpen(service) ? ' breaker-open' : ''}`;
    if (row.seen !== seen || !row.node.className) mark(row.node, `${seen}${row.seen !== seen && BAD.has(service.state) ? ' flash' : ''}`);
    row.seen = seen;
    put(row.title, service.name);
    const where = [service.kind, ...service.addresses, ...service.routes].join(' ');
    if (row.where !== where) {
      row.where = where;
      const parts = [service.addresses.length ? null : service.kind, ...service.addresses.map((a) => el('a', { href: /^https?:/.test(a) ? a : `http://${a}/`, rel: 'noreferrer' }, a)), service.routes.join(' ')].filter(Boolean);
      row.under.replaceChildren(...parts.flatMap((p, i) => i ? [' · ', p] : [p]));
    }
    put(row.word, service.state);
    put(row.reason, service.reason);
    row.reason.hidden = !service.reason;
    const values = [uptime(service.uptime_s), String(service.restarts), rate(service.requests_per_s), duration(service.p95_s)];
    row.cells.forEach((cell, i) => put(cell, values[i]));
    const recent = service.recent.join();
    if (row.recent !== recent) {
      row.recent = recent;
      row.spark.replaceChildren(...(service.recent.length ? [sparkline(service.recent, `${service.recent.reduce((a, b) => a + b, 0)} requests in the last ${service.recent.length} seconds`)] : []));
    }
    put(row.cpu, service.cpu_percent === null ? '–' : `${service.cpu_percent.toFixed(0)} %`);
    put(row.memory, bytes(service.memory_bytes));
    this.buttons(row);
  },

  buttons(row) {
    const service = row.service, busy = page.busy.get(row.name), active = ACTIVE.has(service.state);
    row.verb = active ? 'stop' : 'start';
    put(row.toggle, busy && busy !== 'restart' ? '…' : active ? 'Stop' : 'Start');
    const label = `${active ? 'Stop' : 'Start'} ${row.name}`;
    if (row.toggle.getAttribute('aria-label') !== label) row.toggle.setAttribute('aria-label', label);
    put(row.restart, busy === 'restart' ? '…' : 'Restart');
    const count = service.instances.length;
    put(row.count, String(count));
    row.scaler.hidden = !service.scalable;
    const off = !page.alive || Boolean(busy);
    // aria-disabled, not disabled: a disabled button loses the focus.
    for (const button of [row.toggle, row.restart, row.less, row.more]) {
      button.classList.toggle('busy', off);
      if (off) button.setAttribute('aria-disabled', 'true'); else button.removeAttribute('aria-disabled');
    }
    row.less.disabled = count <= 0;
  },

  acts() { for (const row of this.rows.values()) this.buttons(row); },

  async act(row, verb, path = `/api/services/${encodeURIComponent(row.name)}/${verb}`, body = {}) {
    if (!page.alive || page.busy.has(row.name)) return;
    page.busy.set(row.name, verb);
    this.buttons(row);
    announce(`${verb} ${row.name}`);
    const problem = await act(path, body);
    page.busy.delete(row.name);
    this.buttons(row);
    if (problem) showError(problem);
  },

  scale(row, by) {
    const count = Math.max(0, row.service.instances.length + by);
    return this.act(row, 'scale', `/api/services/${encodeURIComponent(row.name)}/scale`, { count });
  },
};
$('find').addEventListener('input', () => page.snapshot && overview.table(page.snapshot));
$('problems').addEventListener('change', () => page.snapshot && overview.table(page.snapshot));

// --- topology -------------------------------------------------------------------------------------

const MAX_NODES = 12, COMPACT_ABOVE = 7;

const topology = {
  width: 0,

  show(snapshot) {
    const holder = $('topology');
    if (page.view !== 'overview' || !this.width) return;
    const graph = this.graph(snapshot);
    put($('topology-note'), graph.hidden ? `${plural(graph.hidden, 'quiet service')} not drawn` : '');
    holder.replaceChildren(this.width < 620 ? this.narrow(graph) : this.wide(graph));
  },

  // The nodes, and the edges with their rates.
  graph(snapshot) {
    const find = (name) => snapshot.services.find((s) => s.name === name);
    const gateway = find('gateway');
    const weight = (s) => (BAD.has(s.state) ? 4e6 : 0) + (condition(s) === 'warn' ? 2e6 : 0) + (s.requests_per_s || 0) * 1000 + (s.messages.length ? 1e5 : 0) + (s.state === 'stopped' ? -1 : 0);
    let services = snapshot.services.filter((s) => s !== gateway);
    const all = services.length;
    if (all > MAX_NODES) {
      const kept = new Set([...services].sort((a, b) => weight(b) - weight(a)).slice(0, MAX_NODES));
      services = services.filter((s) => kept.has(s));
    }
    const names = new Set(services.map((s) => s.name));
    const flows = services.flatMap((s) => s.messages.map((m) => ({ service: s.name, ...m })));
    let known = (snapshot.broker.queues || []).slice();
    for (const flow of flows) if (!known.some((q) => q.name === flow.queue)) known.push({ name: flow.queue, ready: null, consumers: null });
    const used = new Set(flows.map((f) => f.queue));
    known.sort((a, b) => used.has(b.name) - used.has(a.name) || (b.ready || 0) - (a.ready || 0));
    const queues = known.slice(0, 8);
    return {
      gateway, services, flows: flows.filter((f) => queues.some((q) => q.name === f.queue)), queues, broker: snapshot.broker,
      hidden: all - services.length, dependencies: services.flatMap((s) => s.depends_on.filter((d) => names.has(d)).map((d) => [s.name, d])),
    };
  },

  node(x, y, w, h, tone, title, sub, right = '') {
    const lines = [svg('rect', { class: 'box', x, y, width: w, height: h, rx: 7 }), svg('circle', { class: 'lamp', cx: x + 14, cy: y + h / 2 - (sub ? 8 : 0), r: 4 })];
    const text = (cls, tx, ty, value, anchor = 'start') => { const node = svg('text', { class: cls, x: tx, y: ty, 'text-anchor': anchor }); node.textContent = value; return node; };
    if (45 + title.length * 8 + right.length * 7 > w) right = '';
    const room = Math.floor((w - 30 - right.length * 7) / 7.6);
    lines.push(text('t', x + 25, y + (sub ? h / 2 - 3.5 : h / 2 + 4.5), clip(title, Math.max(6, room))));
    if (sub) lines.push(text('s', x + 25, y + h / 2 + 13, clip(sub, Math.floor((w - 34) / 6.6))));
    if (right) lines.push(text('s', x + w - 10, y + h / 2 + (sub ? -3.5 : 4), right, 'end'));
    return svg('g', { class: tone }, ...lines);
  },

  edge(d, { per_s = null, errors = 0, dep = false, label = null, arrow = 'end' } = {}) {
    const busy = per_s > 0, parts = ['e', dep ? 'dep' : errors > 0 ? 'err' : busy ? 'on' : 'idle'];
    const path = svg('path', { class: parts.join(' '), d, 'stroke-width': busy ? Math.min(4, 1.3 + Math.log10(1 + per_s)).toFixed(1) : 1.2 });
    if (!dep && arrow) path.setAttribute(`marker-${arrow}`, `url(#a-${errors > 0 ? 'err' : busy ? 'on' : 'idle'})`);
    if (!label || !busy) return [path];
    const words = `${rate(per_s)}/s${errors > 0 ? `, ${rate(errors)} failed` : ''}`;
    const text = svg('text', { class: errors > 0 ? 'lbl err' : 'lbl', x: label[0], y: label[1], 'text-anchor': label[2] || 'middle' });
    text.textContent = words;
    return [path, text];
  },

  frame(width, height, words, ...content) {
    const tip = (id, color) => svg('marker', { id: `a-${id}`, viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, markerUnits: 'userSpaceOnUse', orient: 'auto-start-reverse' },
      svg('path', { d: 'M0,0.6L7.4,4L0,7.4z', fill: color }));
    const defs = svg('defs', {}, tip('on', 'var(--accent)'), tip('err', 'var(--bad)'), tip('idle', 'var(--strong)'));
    const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': words }, defs, ...content);
    return picture;
  },

  words(g) {
    const traffic = g.services.filter((s) => s.requests_per_s > 0).map((s) => `${s.name} ${rate(s.requests_per_s)} requests per second`);
    const flows = g.flows.map((f) => f.sends ? `${f.service} publishes to queue ${f.queue}` : `${f.service} consumes from queue ${f.queue}`);
    return `${g.gateway ? `The gateway (${g.gateway.state}) routes to ` : ''}${plural(g.services.filter((s) => s.routes.length).length, 'service')}. ${[...traffic, ...flows].join('; ') || 'No traffic.'}`;
  },

  serviceNode(s, x, y, w, h) {
    if (h < 40) return this.node(x, y, w, h, condition(s), s.name, '', GOOD.has(s.state) ? (s.p95_s !== null ? duration(s.p95_s) : s.routes[0] || '') : s.state);
    const facts = breakerOpen(s) || s.state !== 'ready' ? s.reason || s.state : [s.routes.join(' ') || s.addresses.join(' ') || s.kind].join('');
    return this.node(x, y, w, h, condition(s), s.name, facts, s.p95_s !== null && GOOD.has(s.state) ? duration(s.p95_s) : '');
  },

  queueNode(q, x, y, w, h) {
    const sub = q.ready === null ? 'used by messages' : `${plural(q.ready, 'message')}, ${plural(q.consumers, 'consumer')}`;
    return this.node(x, y, w, h, 'good', q.name, sub);
  },

  wide(g) {
    const W = Math.max(620, this.width), many = g.services.length > COMPACT_ABOVE, H = 46, gap = 12, pad = 4, sh = many ? 30 : H, sgap = many ? 7 : gap;
    const columns = [0, W * 0.36, W * 0.74], w = [W * 0.17, W * 0.23, W * 0.26 - 2 * pad];
    const rows = Math.max(g.services.length, 1), tall = rows * (sh + sgap) - sgap;
    const queueTop = 34, queuesTall = queueTop + Math.max(1, g.queues.length) * (H + gap) + 2;
    const height = Math.max(tall, queuesTall, 92) + 2 * pad;
    const middle = height / 2, top = middle - tall / 2;
    const edges = [], nodes = [];
    const placed = new Map(g.services.map((s, i) => [s.name, top + i * (sh + sgap)]));
    const x1 = columns[0] + w[0], x2 = columns[1];
    if (g.gateway) {
      const y = middle - H / 2, total = g.gateway.requests_per_s;
      nodes.push(this.node(columns[0], y, w[0], H, health(g.gateway.state), 'gateway', g.gateway.addresses[0] || g.gateway.state, g.gateway.p95_s !== null ? duration(g.gateway.p95_s) : ''));
      if (total > 0) { const t = svg('text', { class: 'lbl', x: columns[0] + w[0] / 2, y: y - 9, 'text-anchor': 'middle' }); t.textContent = `${rate(total)} requests/s`; nodes.push(t); }
      for (const s of g.services.filter((s) => s.routes.length)) {
        const to = placed.get(s.name) + sh / 2, bend = (x2 - x1) * 0.5;
        edges.push(...this.edge(`M${x1},${middle}C${x1 + bend},${middle} ${x2 - bend},${to} ${x2 - 2},${to}`, { per_s: s.requests_per_s, errors: s.errors_per_s, label: [x2 - 12, to - (many ? 5 : 7), 'end'] }));
      }
    }
    for (const [from, to] of g.dependencies) {
      const y1 = placed.get(from) + sh / 2, y2 = placed.get(to) + sh / 2, x = x2 + w[1], out = x + 18 + Math.min(40, Math.abs(y1 - y2) / 8);
      edges.push(...this.edge(`M${x},${y1}C${out},${y1} ${out},${y2} ${x},${y2}`, { dep: true }));
    }
    const by = middle - queuesTall / 2, bx = columns[2], down = !GOOD.has(g.broker.state);
    const group = svg('g', { class: health(g.broker.state) }, svg('rect', { class: 'group', x: bx, y: by, width: w[2] + pad, height: queuesTall, rx: 9 }), svg('circle', { class: 'lamp', cx: bx + 16, cy: by + 18, r: 4 }));
    const title = svg('text', { class: 't', x: bx + 27, y: by + 22.5 });
    title.textContent = `broker · ${g.broker.mode}${down ? ` · ${g.broker.state}` : ''}`;
    group.append(title);
    const spots = new Map(g.queues.map((q, i) => [q.name, by + queueTop + i * (H + gap)]));
    const xq = bx + 8;
    if (!g.queues.length) {
      const t = svg('text', { class: 's', x: bx + 27, y: by + queueTop + 22 });
      t.textContent = clip(down ? g.broker.reason || 'unreachable' : g.broker.queues === null ? 'queues unknown in this mode' : 'no queues', Math.floor((w[2] - 30) / 6));
      group.append(t);
    }
    for (const f of g.flows) {
      const y1 = placed.get(f.service) + sh / 2 + (f.sends ? -5 : 5), y2 = spots.get(f.queue) + H / 2 + (f.sends ? -5 : 5), xa = x2 + w[1] + 2, bend = (xq - xa) / 2;
      edges.push(...this.edge(`M${xa},${y1}C${xa + bend},${y1} ${xq - bend},${y2} ${xq - 2},${y2}`, { per_s: f.per_s, arrow: f.sends ? 'end' : 'start', label: [(xa + xq) / 2, (y1 + y2) / 2 + (f.sends ? -8 : 18)] }));
    }
    nodes.push(...g.services.map((s) => this.serviceNode(s, x2, placed.get(s.name), w[1], sh)));
    return this.frame(W, height, this.words(g), group, ...edges, ...nodes, ...g.queues.map((q) => this.queueNode(q, xq, spots.get(q.name), w[2] - 16 + pad, H)));
  },

  // The same for a narrow screen: a tree from top to bottom.
  narrow(g) {
    const W = Math.max(280, this.width), H = 44, gap = 8, edges = [], nodes = [];
    let y = 2;
    const trunk = 16, x = 34;
    if (g.gateway) { nodes.push(this.node(0, y, W - 2, H, health(g.gateway.state), 'gateway', g.gateway.addresses[0] || g.gateway.state)); y += H + gap; }
    const start = y - gap, placed = new Map();
    for (const s of g.services) {
      placed.set(s.name, y);
      if (g.gateway && s.routes.length) edges.push(...this.edge(`M${trunk},${start}V${y + H / 2 - 6}Q${trunk},${y + H / 2} ${trunk + 6},${y + H / 2}H${x - 2}`, { per_s: s.requests_per_s, errors: s.errors_per_s }));
      const figures = s.requests_per_s > 0 ? `${rate(s.requests_per_s)}/s` : '';
      nodes.push(this.node(x, y, W - x - 2, H, condition(s), s.name, condition(s) === 'good' ? s.routes.join(' ') || s.kind : s.reason || s.state, figures));
      y += H + gap;
    }
    const top = y, tall = 34 + Math.max(1, g.queues.length) * (H + gap);
    const group = svg('g', { class: health(g.broker.state) }, svg('rect', { class: 'group', x: 0, y: top, width: W - 2, height: tall, rx: 9 }), svg('circle', { class: 'lamp', cx: 14, cy: top + 18, r: 4 }));
    const title = svg('text', { class: 't', x: 25, y: top + 22.5 });
    title.textContent = `broker · ${g.broker.mode}${GOOD.has(g.broker.state) ? '' : ` · ${g.broker.state}`}`;
    group.append(title);
    g.queues.forEach((q, i) => {
      const users = g.flows.filter((f) => f.queue === q.name).map((f) => `${f.sends ? '←' : '→'} ${f.service} ${rate(f.per_s)}/s`).join('  ');
      const node = this.queueNode(q, 8, top + 34 + i * (H + gap), W - 18, H);
      if (users) put(node.querySelector('.s'), clip(users, Math.floor((W - 60) / 6.2)));
      nodes.push(node);
    });
    if (!g.queues.length) { const t = svg('text', { class: 's', x: 25, y: top + 56 }); t.textContent = clip(GOOD.has(g.broker.state) ? 'no queues to show' : g.broker.reason || 'unreachable', Math.floor((W - 40) / 6.2)); group.append(t); }
    return this.frame(W, y + tall + 2, this.words(g), group, ...edges, ...nodes);
  },
};
new ResizeObserver((entries) => {
  const width = Math.floor(entries[0].contentRect.width);
  if (width && Math.abs(width - topology.width) > 2) { topology.width = width; if (page.snapshot) topology.show(page.snapshot); }
}).observe($('topology'));

// --- logs -----------------------------------------------------------------------------------------

const KEEP = 100000;
const LEVELS = { debug: 0, info: 1, warning: 2, error: 3, critical: 3 };
const [SEQ, TIME, SERVICE, LEVEL, TEXT, TRACE, INSTANCE, FIELDS] = [0, 1, 2, 3, 4, 5, 6, 7];

function oneLine(text) {
  const end = text.indexOf('\n');
  return end < 0 ? text : `${text.slice(0, end)}  (+${plural(text.split('\n').length - 1, 'line')})`;
}

const logs = {
  all: [], shown: [], last: 0, follow: true, chosen: null, first: -1, count: -1,
  narrow: matchMedia('(max-width: 700px)'),
  get height() { return this.narrow.matches ? 40 : 20; },

  take({ missed, lines }) {
    if (missed) this.add([[this.last, Date.now() / 1000, 'msctl', 'warning', `(${missed} lines skipped: this page is too slow)`, null, '', null]]);
    this.add(lines);
    if (lines.length) this.last = lines[lines.length - 1][SEQ];
    this.draw();
  },

  add(lines) {
    const fits = this.filter();
    for (const line of lines) { this.all.push(line); if (fits(line)) this.shown.push(line); }
    if (this.all.length > KEEP) {
      this.all.splice(0, this.all.length - KEEP + KEEP / 10);
      const first = this.all[0];
      const gone = this.shown.findIndex((line) => line[SEQ] >= first[SEQ]);
      this.shown.splice(0, gone < 0 ? this.shown.length : gone);
      if (!this.follow) $('lines').scrollTop -= Math.max(0, gone) * this.height;
    }
  },

  newStack() {
    this.last = 0;
    if (this.all.length) this.add([[0, Date.now() / 1000, 'msctl', 'warning', '— the stack was restarted —', null, '', null]]);
    this.draw();
  },

  filter() {
    const service = $('log-service').value || $('log-service').dataset.wanted || '', level = Number($('log-level').value);
    const text = $('log-text').value.toLowerCase(), trace = $('log-trace').value.trim().toLowerCase();
    return (line) => (!service || line[SERVICE] === service) && (LEVELS[line[LEVEL]] ?? 1) >= level
      && (!trace || (line[TRACE] || '').startsWith(trace)) && (!text || line[TEXT].toLowerCase().includes(text));
  },

  refilter() {
    const fits = this.filter();
    this.shown = this.all.filter(fits);
    if (this.chosen && !fits(this.chosen)) this.choose(null);
    this.count = -1;
    this.draw();
  },

  draw: onFrame(() => logs.render()),

  render() {
    if (page.view !== 'logs') return;
    const box = $('lines'), height = this.height, n = this.shown.length;
    if (n !== this.count) {
      this.count = n;
      $('lines-space').style.height = `${n * height}px`;
      put($('log-count'), n === this.all.length ? plural(n, 'line') : `${n.toLocaleString('en')} of ${plural(this.all.length, 'line')}`);
      $('no-lines').hidden = n > 0;
      put($('no-lines'), this.all.length ? 'No line matches these filters.' : 'No log lines yet.');
      if (this.follow) box.scrollTop = n * height;
    }
    const from = Math.max(0, Math.floor(box.scrollTop / height) - 8), to = Math.min(n, from + Math.ceil(box.clientHeight / height) + 16);
    const frame = $('lines-window');
    frame.style.transform = `translateY(${from * height}px)`;
    const needle = $('log-text').value;
    frame.replaceChildren(...this.shown.slice(from, to).map((line) => this.row(line, needle)));
  },

  row(line, needle) {
    const what = el('span', { className: 'what' }), text = clip(oneLine(line[TEXT]), 600), at = needle ? text.toLowerCase().indexOf(needle.toLowerCase()) : -1;
    if (at < 0) what.textContent = text;
    else what.append(text.slice(0, at), el('mark', {}, text.slice(at, at + needle.length)), text.slice(at + needle.length));
    const node = el('div', { className: `row ${line[LEVEL]}${line === this.chosen ? ' chosen' : ''}` },
      el('span', { className: 'when' }, clock(line[TIME])), el('span', { className: 'who' }, line[SERVICE]), what);
    node.addEventListener('click', () => this.choose(line));
    return node;
  },

  choose(line) {
    this.chosen = line;
    const side = $('line');
    side.hidden = !line;
    if (line) {
      const facts = [['Time', `${new Date(line[TIME] * 1000).toLocaleDateString('en-CA')} ${clock(line[TIME])}`], ['Service', line[SERVICE]], ['Level', line[LEVEL]]];
      if (line[INSTANCE]) facts.push(['Instance', line[INSTANCE]]);
      if (line[TRACE]) facts.push(['Trace', el('a', { href: `#/traces?id=${line[TRACE]}`, className: 'id' }, line[TRACE])]);
      for (const [name, value] of Object.entries(line[FIELDS] || {})) facts.push([name, String(value)]);
      side.replaceChildren(
        el('button', { type: 'button', className: 'quiet close', 'aria-label': 'Close', onclick: () => { this.choose(null); $('lines').focus(); } }, '✕'),
        el('dl', {}, ...facts.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)])), el('pre', { tabIndex: 0 }, line[TEXT]));
      if (line[TRACE]) side.append(el('p', { className: 'note' }, el('a', { href: `#/logs?trace=${line[TRACE]}` }, 'All lines of this trace')));
    }
    this.render();
  },

  move(by) {
    const n = this.shown.length;
    if (!n) return;
    let at = this.chosen ? this.shown.indexOf(this.chosen) : -1;
    if (at < 0) at = this.follow ? n : Math.floor($('lines').scrollTop / this.height);
    const to = Math.min(n - 1, Math.max(0, at + by));
    this.setFollow(false);
    const box = $('lines'), top = to * this.height;
    if (top < box.scrollTop) box.scrollTop = top;
    if (top + this.height > box.scrollTop + box.clientHeight) box.scrollTop = top + this.height - box.clientHeight;
    this.choose(this.shown[to]);
  },

  setFollow(on) {
    this.follow = on;
    $('log-follow').setAttribute('aria-pressed', String(on));
    if (on) { $('lines').scrollTop = this.shown.length * this.height; this.draw(); }
  },
};
$('lines').addEventListener('scroll', () => {
  const box = $('lines'), atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - logs.height * 1.5;
  if (atEnd !== logs.follow && (atEnd || box.matches(':hover, :focus-within, :focus'))) logs.setFollow(atEnd);
  logs.draw();
}, { passive: true });
$('lines').addEventListener('keydown', (event) => {
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20, Home: -Infinity, End: Infinity };
  if (event.key in steps) { event.preventDefault(); logs.move(steps[event.key]); }
  if (event.key === 'Escape') logs.choose(null);
});
for (const id of ['log-text', 'log-trace']) $(id).addEventListener('input', () => logs.refilter());
$('log-service').addEventListener('change', () => { $('log-service').dataset.wanted = ''; logs.refilter(); });
$('log-level').addEventListener('change', () => logs.refilter());
$('log-filter').addEventListener('submit', (event) => event.preventDefault());
$('log-follow').addEventListener('click', () => logs.setFollow(!logs.follow));
$('log-clear').addEventListener('click', () => { logs.all = []; logs.choose(null); logs.refilter(); });
logs.narrow.addEventListener('change', () => { logs.count = -1; logs.draw(); });
new ResizeObserver(() => { if (logs.follow) logs.count = -1; logs.draw(); }).observe($('lines'));

// --- traces ---------------------------------------------------------------------------------------

const traces = {
  chosen: null, live: true, timer: 0, rows: [],

  async load() {
    clearTimeout(this.timer);
    if (page.view !== 'traces' || document.hidden) return;
    if (page.alive && page.can.traces) {
      const query = new URLSearchParams({ limit: 200 });
      const service = $('trace-service').value || $('trace-service').dataset.wanted;
      if (service) query.set('service', service);
      if ($('trace-errors').checked) query.set('errors', 1);
      if ($('trace-min').value) query.set('min_ms', Math.round(Number($('trace-min').value) || 0));
      const answer = await fetch(`/api/traces?${query}`, { cache: 'no-store' }).catch(() => null);
      if (answer && answer.ok) this.show(await answer.json());
    }
    if (this.live) this.timer = setTimeout(() => this.load(), 2000);
  },

  show(found) {
    const key = found.map((t) => t.trace_id + t.spans).join();
    $('no-traces').hidden = found.length > 0;
    put($('trace-count'), plural(found.length, 'trace'));
    if (key === this.key) return;
    this.key = key;
    const focused = document.activeElement && document.activeElement.dataset.trace;
    const longest = Math.max(...found.map((t) => t.duration_s), 1e-9);
    $('trace-rows').replaceChildren(...found.map((t) => {
      const bar = el('i');
      bar.style.width = `${Math.max(2, t.duration_s / longest * 100)}%`;
      return el('tr', { role: 'row', className: t.trace_id === this.chosen ? 'chosen' : '', 'data-id': t.trace_id, onclick: () => this.open(t.trace_id) },
        el('td', { role: 'cell', className: 'mono' }, clock(t.start)),
        el('td', { role: 'cell' }, el('button', { type: 'button', className: 'link', title: t.name, 'data-trace': t.trace_id }, t.name)),
        el('td', { role: 'cell' }, clip(t.services.join(' → '), 48)),
        el('td', { role: 'cell', className: 'num' }, String(t.spans)),
        el('td', { role: 'cell', className: t.error ? 'num bad' : 'num' }, t.error ? `${t.status ?? ''} error`.trim() : String(t.status ?? 'ok')),
        el('td', { role: 'cell', className: 'num' }, duration(t.duration_s), el('span', { className: t.error ? 'bars err' : 'bars', 'aria-hidden': 'true' }, bar)));
    }));
    if (focused) { const back = document.querySelector(`[data-trace="${CSS.escape(focused)}"]`); if (back) back.focus(); }
  },

  async open(id) {
    this.chosen = id;
    for (const row of $('trace-rows').children) mark(row, row.dataset.id === id ? 'chosen' : '');
    const side = $('trace');
    const answer = await fetch(`/api/traces/${encodeURIComponent(id)}`, { cache: 'no-store' }).catch(() => null);
    if (this.chosen !== id) return;
    side.hidden = false;
    side.parentNode.classList.add('open');
    const close = el('button', { type: 'button', className: 'quiet close', 'aria-label': 'Close', onclick: () => this.close() }, '✕');
    if (!answer || !answer.ok) {
      const problem = answer ? await answer.json().catch(() => ({})) : {};
      side.replaceChildren(close, el('p', { className: 'note' }, problem.message || 'The stack does not respond.'));
      return;
    }
    const trace = await answer.json(), spans = trace.spans;
    const begin = Math.min(...spans.map((s) => s.start)), end = Math.max(...spans.map((s) => s.start + s.duration_s)), whole = Math.max(end - begin, 1e-9);
    side.replaceChildren(close, el('h3', {}, spans[0].name),
      el('p', { className: 'note' }, `${duration(whole)} · ${plural(spans.length, 'span')}${trace.dropped ? `, ${trace.dropped} more dropped` : ''} · ${clock(begin)} · `, el('a', { href: `#/logs?trace=${trace.trace_id}` }, 'log lines')),
      el('p', { className: 'note id mono' }, trace.trace_id),
      el('ol', { className: 'waterfall', 'aria-label': 'Spans by start time' }, ...this.tree(spans).map(([span, depth]) => {
        const bar = el('i'), error = span.error ? ' err' : '';
        bar.style.left = `${(span.start - begin) / whole * 100}%`;
        bar.style.width = `${span.duration_s / whole * 100}%`;
        const facts = Object.entries(span.attributes).map(([k, v]) => `${k}=${v}`).join('\n');
        const label = el('span', { className: 'label', title: `${span.service}: ${span.name} (${span.kind})\n${facts}` }, el('b', {}, span.service), ` ${span.name}`);
        label.style.paddingLeft = `${Math.min(depth, 10) * 12}px`;
        return el('li', { className: span.kind + error }, label, el('span', { className: 'track', 'aria-hidden': 'true' }, bar),
          el('span', { className: 'took' }, el('span', { className: 'sr' }, `${span.error ? 'failed, ' : ''}after ${duration(span.start - begin)}, took `), duration(span.duration_s)),
          this.details(span, begin));
      })));
  },

  // Attributes and events of a span; an exception says what was raised without being opened.
  details(span, begin) {
    const raised = span.events.find((e) => e.name === 'exception'), of = (e, key) => e.attributes[`exception.${key}`];
    const text = raised ? [of(raised, 'type'), of(raised, 'message')].filter(Boolean).join(': ') : span.error && span.message || 'details';
    const facts = (attributes) => el('dl', {}, ...Object.entries(attributes).filter(([k]) => k !== 'exception.stacktrace').flatMap(([k, v]) => [el('dt', {}, k), el('dd', {}, String(v))]));
    return el('details', { className: raised || span.error && span.message ? 'raised' : '' }, el('summary', {}, text), facts(span.attributes),
      ...span.events.map((e) => el('section', {}, el('h4', {}, `${e.name}, after ${duration(Math.max(0, e.time - begin))}`), facts(e.attributes),
        of(e, 'stacktrace') ? el('pre', { tabIndex: 0 }, of(e, 'stacktrace')) : '')));
  },

  // Depth first: each span below its parent.
  tree(spans) {
    const below = new Map(), ids = new Set(spans.map((s) => s.span_id)), out = [];
    for (const s of spans) { const parent = ids.has(s.parent_id) ? s.parent_id : null; below.set(parent, [...(below.get(parent) || []), s]); }
    const walk = (id, depth) => { for (const s of below.get(id) || []) { out.push([s, depth]); if (depth < 64) walk(s.span_id, depth + 1); } };
    walk(null, 0);
    return out;
  },

  close() {
    const id = this.chosen;
    this.chosen = null;
    $('trace').hidden = true;
    $('trace').parentNode.classList.remove('open');
    for (const row of $('trace-rows').children) mark(row, '');
    const back = id && document.querySelector(`[data-trace="${CSS.escape(id)}"]`);
    if (back) back.focus();
  },
};
$('trace-filter').addEventListener('submit', (event) => event.preventDefault());
$('trace-filter').addEventListener('input', () => { $('trace-service').dataset.wanted = ''; traces.load(); });
$('trace-live').addEventListener('click', () => {
  traces.live = !traces.live;
  $('trace-live').setAttribute('aria-pressed', String(traces.live));
  traces.load();
});
$('trace').addEventListener('keydown', (event) => { if (event.key === 'Escape') traces.close(); });

// --- queues ---------------------------------------------------------------------------------------

const queues = {
  rows: new Map(), before: new Map(), depths: new Map(), peeking: null,

  show(snapshot) {
    const broker = snapshot.broker, list = broker.queues;
    put($('broker'), `Broker · ${broker.mode}`);
    put($('broker-note'), [broker.url, broker.state + (broker.reason ? `: ${broker.reason}` : ''), broker.connections === null ? '' : plural(broker.connections, 'connection')].filter(Boolean).join(' · '));
    $('queue-table').hidden = !list || !list.length;
    $('no-queues').hidden = Boolean(list && list.length);
    put($('no-queues'), list ? 'The broker has no queues yet.' : GOOD.has(broker.state) ? 'The queues of an external broker are unknown. Enter a name below to publish to a queue or to watch it.' : 'The broker is unreachable.');
    put($('peek-how'), broker.mode === 'embedded' ? 'Watching does not consume messages.' : 'Messages are consumed and requeued at once, which marks them as redelivered.');
    const now = snapshot.uptime_s, names = (list || []).map((q) => q.name);
    const flows = snapshot.services.flatMap((s) => s.messages.map((m) => m.queue));
    const known = [...new Set([...names, ...flows])].slice(0, 200).join('\n');
    if (known !== this.known) { this.known = known; $('queue-names').replaceChildren(...known.split('\n').filter(Boolean).map((n) => el('option', { value: n }))); }
    for (const [name, row] of this.rows) if (!names.includes(name)) { row.node.remove(); this.rows.delete(name); this.depths.delete(name); this.before.delete(name); }
    for (const queue of list || []) {
      const past = this.before.get(queue.name), span = past ? now - past.now : 0;
      const speed = (field) => queue[field] === null || !past || span <= 0 ? null : Math.max(0, (queue[field] - past[field]) / span);
      const depth = this.depths.get(queue.name) || [];
      depth.push(queue.ready);
      if (depth.length > 60) depth.shift();
      this.depths.set(queue.name, depth);
      // The rate over about ten seconds, so that it is steady.
      const history = past ? past.history : [];
      history.push({ now, published: queue.published, delivered: queue.delivered });
      if (history.length > 10) history.shift();
      this.before.set(queue.name, { ...history[0], history });
      if (page.view === 'queues') this.draw(queue, speed('published'), speed('delivered'), depth);
    }
  },

  draw(queue, input, output, depth) {
    let row = this.rows.get(queue.name);
    if (!row) {
      const cell = (props = {}, ...children) => el('td', { role: 'cell', ...props }, ...children);
      row = { cells: Array.from({ length: 5 }, () => cell({ className: 'num' })), depth: cell() };
      row.node = el('tr', { role: 'row' }, cell({ className: 'name' }, clip(queue.name, 60)), ...row.cells, row.depth, cell({ className: 'num' }, el('div', { className: 'acts' },
        ...(page.can.queues ? [
          el('button', { type: 'button', 'aria-label': `Publish to ${queue.name}`, onclick: () => { $('publish-queue').value = queue.name; $('publish-body').focus(); } }, 'Publish'), ' ',
          el('button', { type: 'button', 'aria-label': `Watch ${queue.name}`, onclick: () => { $('peek-queue').value = queue.name; this.peek(); } }, 'Watch')] : []))));
      this.rows.set(queue.name, row);
      $('queue-rows').append(row.node);
    }
    [queue.ready.toLocaleString('en'), queue.unacked.toLocaleString('en'), String(queue.consumers), rate(input), rate(output)].forEach((text, i) => put(row.cells[i], text));
    row.depth.replaceChildren(sparkline(depth.length > 1 ? depth : [queue.ready, queue.ready], `${queue.ready} messages now`));
  },

  async publish() {
    const button = $('publish').querySelector('button');
    button.disabled = true;
    const queue = $('publish-queue').value.trim();
    const problem = await act('/api/publish', { queue, body: $('publish-body').value, content_type: $('publish-type').value.trim() || 'text/plain' });
    button.disabled = false;
    if (problem) { showError(problem); put($('published'), 'Not published.'); } else put($('published'), `Confirmed by the broker at ${clock(Date.now() / 1000)}.`);
  },

  peek() {
    this.stop();
    const queue = $('peek-queue').value.trim();
    if (!queue) return;
    $('messages').replaceChildren();
    put($('peek-note'), `Opening ${queue}…`);
    put($('peek-button'), 'Stop');
    const source = this.peeking = new EventSource(`/api/peek?${new URLSearchParams({ queue })}`);
    let count = 0;
    source.addEventListener('messages', (event) => {
      const { missed, messages } = JSON.parse(event.data);
      count += missed + messages.length;
      put($('peek-note'), count ? `${plural(count, 'message')} seen in ${queue}.` : `${queue} is empty. New messages appear here.`);
      for (const message of messages) $('messages').prepend(this.message(message));
      while ($('messages').children.length > 200) $('messages').lastChild.remove();
    });
    source.addEventListener('failed', (event) => { const problem = JSON.parse(event.data); this.stop(); put($('peek-note'), problem.message); showError(problem); });
    source.onerror = () => { if (this.peeking === source) { this.stop(); put($('peek-note'), 'The stream ended.'); } };
  },

  message(m) {
    const facts = [m.content_type, `${m.size.toLocaleString('en')} B`, m.exchange && `exchange ${m.exchange}`, m.routing_key && `key ${m.routing_key}`, m.redelivered && 'redelivered', ...Object.entries(m.headers).map(([k, v]) => `${k}=${v}`)].filter(Boolean);
    return el('li', {}, el('pre', { tabIndex: 0 }, m.body), el('p', { className: 'note' }, facts.join(' · ')));
  },

  stop() {
    if (this.peeking) this.peeking.close();
    this.peeking = null;
    put($('peek-button'), 'Watch');
  },
};
$('publish').addEventListener('submit', (event) => { event.preventDefault(); queues.publish(); });
$('peek').addEventListener('submit', (event) => { event.preventDefault(); if (queues.peeking) { queues.stop(); put($('peek-note'), 'Stopped.'); } else queues.peek(); });

// --- views, colour scheme, keys -------------------------------------------------------------------

function route() {
  const [path, search = ''] = location.hash.replace(/^#\/?/, '').split('?'), query = new URLSearchParams(search);
  const view = ['logs', 'traces', 'queues'].includes(path) ? path : 'overview';
  const changed = view !== page.view;
  page.view = view;
  for (const section of document.querySelectorAll('main > section')) section.hidden = section.id !== view;
  for (const link of document.querySelectorAll('nav a')) { if (link.dataset.view === view) link.setAttribute('aria-current', 'page'); else link.removeAttribute('aria-current'); }
  if (view === 'logs') {
    if (query.has('service')) { $('log-service').dataset.wanted = query.get('service'); $('log-service').value = query.get('service'); }
    if (query.has('trace')) { $('log-trace').value = query.get('trace'); $('log-service').value = ''; $('log-text').value = ''; $('log-level').value = '0'; }
    logs.refilter();
    if (logs.follow) logs.setFollow(true);
  }
  if (view === 'traces') { traces.load(); if (query.has('id')) traces.open(query.get('id')); }
  if (view !== 'queues') queues.stop();
  if (page.snapshot) show(page.snapshot);
  if (changed) scrollTo(0, 0);
}
addEventListener('hashchange', route);

const THEMES = ['auto', 'light', 'dark'];
const ICONS = { auto: 'M8 1.5a6.5 6.5 0 1 0 0 13zM8 1.5a6.5 6.5 0 0 1 0 13', light: 'M8 4.8a3.2 3.2 0 1 0 0 6.4 3.2 3.2 0 0 0 0-6.4M8 .8v2M8 13.2v2M.8 8h2M13.2 8h2M2.9 2.9l1.4 1.4M11.7 11.7l1.4 1.4M2.9 13.1l1.4-1.4M11.7 4.3l1.4-1.4', dark: 'M13.5 9.8A6 6 0 0 1 6.2 2.5a6 6 0 1 0 7.3 7.3z' };
function paint(theme) {
  document.documentElement.dataset.theme = theme;
  $('theme').replaceChildren(svg('svg', { viewBox: '0 0 16 16', 'aria-hidden': 'true' }, svg('path', { d: ICONS[theme], ...(theme === 'auto' ? { fill: 'none' } : {}) })));
  $('theme').setAttribute('aria-label', `Colour scheme: ${theme === 'auto' ? 'system' : theme}`);
  $('theme').title = $('theme').getAttribute('aria-label');
}
let theme = 'auto';
try { theme = THEMES.includes(localStorage.getItem('msctl-theme')) ? localStorage.getItem('msctl-theme') : 'auto'; } catch { /* storage may be disabled */ }
paint(theme);
$('theme').addEventListener('click', () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  paint(theme);
  try { localStorage.setItem('msctl-theme', theme); } catch { /* the choice then lasts until the page is closed */ }
});

addEventListener('keydown', (event) => {
  if (event.key !== '/' || event.ctrlKey || event.metaKey || /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) return;
  const field = { overview: 'find', logs: 'log-text', traces: 'trace-min', queues: 'publish-queue' }[page.view];
  event.preventDefault();
  $(field).focus();
});

route();
connect();
