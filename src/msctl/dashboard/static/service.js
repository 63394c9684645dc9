// The page of one service: what it is, how it does, what it calls, what it says.
import { act, showError } from './actions.js';
import { address } from './address.js';
import { around, build, busy } from './graph.js';
import { logs } from './logs.js';
import { request } from './span_tree.js';
import { ACTIVE, condition, page } from './state.js';
import { $, addressLink, bytes, chart, clip, clock, duration, el, mark, plural, put, rate, uptime } from './tools.js';
import { topology } from './topology.js';

const KEEP = 600, FIELDS = 3;

export const service = {
  enter(query) { this.forget(); this.open(query.get('name') || ''); topology.load(); },

  name: null, history: new Map(), times: new Float64Array(KEEP), count: 0, timer: 0,

  // Called with every state, whatever is shown, so that the charts have a past when the page is opened. A ring of
  // numbers for each service: ten minutes of two hundred services as objects would be megabytes.
  record(snapshot) {
    const at = this.count++ % KEEP, known = new Set();
    this.times[at] = Date.now();
    for (const s of snapshot.services) {
      known.add(s.name);
      if (!this.history.has(s.name)) this.history.set(s.name, new Float32Array(KEEP * FIELDS).fill(NaN));
      this.history.get(s.name).set([s.requests_per_s || 0, s.errors_per_s || 0, s.p95_s ?? NaN], at * FIELDS);
    }
    for (const name of this.history.keys()) if (!known.has(name)) this.history.delete(name);
    if (page.view === 'service') this.show(snapshot);
  },

  // The points of one figure of this service, oldest first.
  series(field) {
    const past = this.history.get(this.name), found = [];
    for (let i = Math.max(0, this.count - KEEP); past && i < this.count; i++) {
      const value = past[(i % KEEP) * FIELDS + field];
      found.push([this.times[i % KEEP], Number.isNaN(value) ? null : value]);
    }
    return found;
  },

  open(name) {
    this.name = name;
    put($('h-service'), name);
    for (const id of ['service-keys', 'service-variables', 'service-traces']) $(id).replaceChildren();
    if (page.snapshot) this.show(page.snapshot);
    this.load();
  },

  async details() {
    const name = this.detailed = this.name;
    const answer = await fetch(`/api/services/${encodeURIComponent(name)}`, { cache: 'no-store' }).catch(() => null);
    if (this.name !== name || !answer || !answer.ok) return;
    const details = await answer.json();
    const rows = (pairs) => pairs.map(([key, value]) => el('tr', {}, el('th', { scope: 'row' }, key), el('td', { className: 'mono' }, value)));
    $('service-keys').replaceChildren(...rows(details.keys));
    $('service-variables').replaceChildren(...rows(details.variables));
    $('no-service-keys').hidden = details.keys.length > 0;
    $('no-service-variables').hidden = details.variables.length > 0;
  },

  // Traces are asked for while the page of a service is shown.
  async load() {
    clearTimeout(this.timer);
    if (page.view !== 'service' || document.hidden) return;
    const name = this.name;
    if (page.alive && page.can.traces) {
      const answer = await fetch(`/api/traces?${new URLSearchParams({ service: name, limit: 12 })}`, { cache: 'no-store' }).catch(() => null);
      if (answer && answer.ok && this.name === name) this.traces(await answer.json());
    }
    this.timer = setTimeout(() => this.load(), 3000);
  },

  traces(found) {
    $('no-service-traces').hidden = found.length > 0;
    $('service-traces').replaceChildren(...found.map((t) => el('tr', {},
      el('td', { className: 'mono' }, clock(t.start)),
      el('td', {}, el('a', { href: address('traces', { service: this.name, id: t.trace_id }) }, request(t))),
      el('td', { className: t.error ? 'num bad' : 'num' }, t.error ? `${t.status ?? ''} error`.trim() : String(t.status ?? 'ok')),
      el('td', { className: 'num' }, duration(t.duration_s)))));
  },

  show(snapshot) {
    const s = snapshot.services.find((one) => one.name === this.name);
    $('service-gone').hidden = Boolean(s);
    $('service-body').hidden = !s;
    if (!s) { put($('service-gone'), `There is no service ${this.name}.`); return; }
    if (this.detailed !== this.name) this.details();
    mark($('service-state'), `condition ${condition(s)}`);
    put($('service-word'), s.state);
    put($('service-reason'), s.reason || '');
    const key = JSON.stringify([s.addresses, s.routes, s.kind]);
    if (key !== this.where) {
      this.where = key;
      const links = s.addresses.map((a) => addressLink(a));
      const routes = s.routes.map((r) => el('a', { href: address('routes', { target: r }) }, r));
      $('service-where').replaceChildren(...[s.kind, ...links, ...routes].flatMap((part, i) => i ? [' · ', part] : [part]));
    }
    this.figures(s);
    this.buttons(s);
    this.instances(s);
    this.charts();
    this.neighbours(s, snapshot);
    this.output();
  },

  figures(s) {
    const facts = [['Requests', `${rate(s.requests_per_s)}/s`], ['Errors', `${rate(s.errors_per_s)}/s`], ['p95', duration(s.p95_s)], ['Uptime', uptime(s.uptime_s)], ['Restarts', String(s.restarts)], ['Memory', bytes(s.memory_bytes)]];
    const list = $('service-figures');
    if (!list.children.length) list.replaceChildren(...facts.map(() => el('div', {}, el('dt'), el('dd'))));
    facts.forEach(([name, value], i) => { put(list.children[i].firstChild, name); put(list.children[i].lastChild, value); });
    mark(list.children[1], s.errors_per_s > 0 ? 'bad' : '');
  },

  buttons(s) {
    const active = ACTIVE.has(s.state), off = !page.alive || page.busy.has(s.name);
    put($('service-toggle'), active ? 'Stop' : 'Start');
    $('service-toggle').dataset.verb = active ? 'stop' : 'start';
    for (const button of [$('service-toggle'), $('service-restart')]) { if (off) button.setAttribute('aria-disabled', 'true'); else button.removeAttribute('aria-disabled'); }
  },

  async act(verb) {
    const name = this.name;
    if (!page.alive || page.busy.has(name)) return;
    page.busy.set(name, verb);
    const problem = await act(`/api/services/${encodeURIComponent(name)}/${verb}`);
    page.busy.delete(name);
    if (problem) showError(problem);
    if (page.snapshot) this.show(page.snapshot);
  },

  instances(s) {
    const cell = (text, props = {}) => el('td', props, text);
    const key = JSON.stringify(s.instances);
    if (key === this.drawn) return;
    this.drawn = key;
    $('service-instances').replaceChildren(...s.instances.map((i) => el('tr', { className: i.state },
      el('th', { scope: 'row' }, i.name), el('td', {}, el('span', { className: 'dot', 'aria-hidden': 'true' }), i.state),
      cell(i.address || '–', { className: 'mono' }), cell(i.pid === null ? '–' : String(i.pid), { className: 'num' }),
      cell(uptime(i.uptime_s), { className: 'num' }), cell(String(i.restarts), { className: 'num' }),
      cell(i.cpu_percent === null ? '–' : `${i.cpu_percent.toFixed(0)} %`, { className: 'num' }), cell(bytes(i.memory_bytes), { className: 'num' }),
      cell(i.target ? String(i.target.in_flight) : '–', { className: 'num' }), cell(i.target ? i.target.breaker : '–'),
      cell(i.reason || i.exit || ''))));
  },

  charts() {
    $('service-charts').replaceChildren(
      chart('Requests per second', this.series(0), rate),
      chart('Errors per second', this.series(1), rate, 'bad'),
      chart('p95', this.series(2), duration));
  },

  // What traces have shown of it, and beside it what is only configured.
  neighbours(s, snapshot) {
    const near = around(build(snapshot, topology.calls), [s.name], 1), names = new Map(near.nodes.map((n) => [n.id, n]));
    const key = JSON.stringify(near.edges);
    if (key === this.near) return;
    this.near = key;
    const link = (id) => { const n = names.get(id); return n.kind === 'service' ? el('a', { href: address('service', { name: n.name }) }, n.name) : n.kind === 'queue' ? el('a', { href: address('messaging', { queue: n.name }) }, `queue ${n.name}`) : n.name; };
    const shown = (e, id) => [link(id), busy(e) ? '' : el('span', { className: 'note' }, ' (configured)'), e.errors ? el('a', { className: 'bad', href: address('traces', { id: e.trace, errors: true }) }, ` ${e.errors.toLocaleString('en')} failed`) : ''];
    const all = (edges, other) => edges.length ? edges.flatMap((e, i) => i ? [', ', ...shown(e, e[other])] : shown(e, e[other])) : ['none'];
    $('service-near').replaceChildren(
      el('dt', {}, 'Calls'), el('dd', {}, ...all(near.edges.filter((e) => e.from === s.name), 'to')),
      el('dt', {}, 'Called by'), el('dd', {}, ...all(near.edges.filter((e) => e.to === s.name), 'from')),
      el('dt', {}, 'Picture'), el('dd', {}, el('a', { href: address('topology', { focus: s.name }) }, 'in the topology')));
  },

  output() {
    const lines = logs.last_of(this.name, 20);
    const key = lines.length ? lines[lines.length - 1][0] : 0;
    if (key === this.said) return;
    this.said = key;
    $('no-service-output').hidden = lines.length > 0;
    $('service-output').replaceChildren(...lines.map((line) => el('li', { className: line[3] }, el('span', { className: 'when' }, clock(line[1])), ' ', clip(line[4], 2000))));
    $('service-log').href = address('logs', { service: this.name });
    put($('service-log'), `all ${plural(lines.length, 'line')}`.includes('20') ? 'all lines' : 'in the log');
  },

  // Another service may have the same figures: everything is drawn again.
  forget() { this.where = this.drawn = this.near = this.said = this.detailed = null; },
};
$('service-toggle').addEventListener('click', (event) => service.act(event.target.dataset.verb));
$('service-restart').addEventListener('click', () => service.act('restart'));
