// The overview: figures and the table of services.
import { act, announce, showError } from './actions.js';
import { address, remember } from './address.js';
import { sortable, sorted } from './sorting.js';
import { ACTIVE, BAD, GOOD, breakerOpen, condition, health, page } from './state.js';
import { $, addressLink, bytes, duration, el, mark, plural, put, rate, sparkline, uptime } from './tools.js';
import { topology } from './topology.js';

const STATES = { bad: 0, warn: 1, good: 2, off: 3 };
const VALUES = {
  name: (s) => s.name, state: (s) => STATES[condition(s)], uptime: (s) => s.uptime_s, restarts: (s) => s.restarts, requests: (s) => s.requests_per_s,
  p95: (s) => s.p95_s, recent: (s) => s.recent.reduce((a, b) => a + b, 0), cpu: (s) => s.cpu_percent, memory: (s) => s.memory_bytes,
};

export const overview = {
  rows: new Map(), order: '',

  enter(query) {
    $('find').value = query.get('find') || '';
    $('problems').checked = query.has('problems');
    this.order = query.get('sort') || '';
    this.mark();
    topology.load();
  },

  remember() { remember('', { find: $('find').value.trim(), problems: $('problems').checked, sort: this.order }); if (page.snapshot) this.table(page.snapshot); },

  show(snapshot) {
    if (page.view !== 'overview') return;
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
      ['Errors', rate(errors), '5xx per second', errors > 0 ? 'bad' : '', address('traces', { errors: true, status: '5xx' })],
      ['Failed traces', topology.failed.toLocaleString('en'), topology.traces ? `of the last ${topology.traces.toLocaleString('en')}` : 'no traces yet', topology.failed ? 'bad' : '', address('traces', { errors: true })],
      ['Slowest p95', slowest ? duration(slowest.p95_s) : '–', slowest ? slowest.name : 'no requests yet', '', slowest ? address('service', { name: slowest.name }) : ''],
      ['Broker', broker.state, waiting === null ? broker.mode : `${broker.mode}, ${waiting.toLocaleString('en')} waiting`, GOOD.has(broker.state) ? '' : broker.state === 'stopped' ? '' : 'bad', address('messaging')],
    ];
    const list = $('figures');
    if (list.children.length !== rows.length) list.replaceChildren(...rows.map(() => el('div', {}, el('dt'), el('dd', {}, el('span'), ' ', el('small')))));
    rows.forEach(([name, value, unit, tone, href], i) => {
      const cell = list.children[i], title = cell.firstChild;
      mark(cell, tone);
      if (href && title.firstChild?.tagName !== 'A') title.replaceChildren(el('a', {}, name));
      if (href && title.firstChild.getAttribute('href') !== href) title.firstChild.href = href;
      if (!href) put(title, name);
      put(cell.querySelector('span'), value);
      put(cell.querySelector('small'), unit);
    });
  },

  table(snapshot) {
    const body = $('services'), needle = $('find').value.trim().toLowerCase(), problems = $('problems').checked;
    $('services').parentNode.classList.toggle('unmeasured', snapshot.services.every((s) => s.memory_bytes === null));
    let shown = 0, previous = null;
    for (const service of sorted(snapshot.services, this.order, VALUES)) {
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
    row.title = el('a', { className: 'name', href: address('service', { name }) });
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
      const parts = [service.addresses.length ? null : service.kind, ...service.addresses.map((a) => addressLink(a)), service.routes.join(' ')].filter(Boolean);
      row.under.replaceChildren(...parts.flatMap((p, i) => i ? [' · ', p] : [p]));
    }
    put(row.word, service.state);
    put(row.reason, service.reason);
    row.reason.hidden = !service.reason;
    const values = [uptime(service.uptime_s), String(service.restarts), rate(service.requests_per_s), duration(service.p95_s)];
    row.cells.forEach((cell, i) => { if (i !== 2) put(cell, values[i]); });
    this.requests(row, service, values[2]);
    const recent = service.recent.join();
    if (row.recent !== recent) {
      row.recent = recent;
      row.spark.replaceChildren(...(service.recent.length ? [sparkline(service.recent, `${service.recent.reduce((a, b) => a + b, 0)} requests in the last ${service.recent.length} seconds`)] : []));
    }
    put(row.cpu, service.cpu_percent === null ? '–' : `${service.cpu_percent.toFixed(0)} %`);
    put(row.memory, bytes(service.memory_bytes));
    this.buttons(row);
  },

  // Requests, and of those that failed a link to their traces.
  requests(row, service, text) {
    const fails = service.errors_per_s > 0 ? `${rate(service.errors_per_s)} failed` : '';
    if (row.rates === text + fails) return;
    row.rates = text + fails;
    row.cells[2].replaceChildren(text, ...(fails ? [el('a', { className: 'under bad', href: address('traces', { service: row.name, errors: true }) }, fails)] : []));
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
overview.mark = sortable(document.querySelector('#overview thead'), () => overview.order, (to) => { overview.order = to; overview.remember(); });
$('find').addEventListener('input', () => overview.remember());
$('problems').addEventListener('change', () => overview.remember());
