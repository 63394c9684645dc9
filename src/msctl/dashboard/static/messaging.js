// The broker: its queues, exchanges, bindings, connections, channels and consumers, and what one does to them.
import { act, announce, showError } from './actions.js';
import { address, remember } from './address.js';
import { confirm } from './dialog.js';
import { bindDialog, declareExchange, declareQueue, moveDialog } from './broker_forms.js';
import { draw, list } from './picture.js';
import { page } from './state.js';
import { Table, count, yes } from './table.js';
import { $, bytes, chart, clock, el, plural, put, rate } from './tools.js';
import { watch } from './watch.js';

const EVERY_MS = 2000, KEEP = 300, SPAN = 5, MOST_DRAWN = 60;
const TABS = ['queues', 'exchanges', 'bindings', 'connections', 'channels', 'consumers'];
const shown = (name) => name === '' ? '(default)' : name;
const table = (args) => Object.entries(args).map(([k, v]) => `${k}=${typeof v === 'object' ? JSON.stringify(v) : v}`).join(', ');
const open = (params, text, more = {}) => el('a', { href: address('messaging', params), ...more }, text);

const COLUMNS = {
  queues: [
    { id: 'name', title: 'Queue', value: (q) => q.name, cell: (q) => open({ queue: q.name }, q.name, { className: 'name', 'data-act': 'open' }), class: 'wrap' },
    { id: 'kind', title: 'Type', lesser: true, value: (q) => [q.type, q.durable ? 'durable' : '', q.exclusive ? 'exclusive' : '', q.auto_delete ? 'auto-delete' : ''].filter(Boolean).join(', ') },
    { id: 'ready', title: 'Ready', num: true, value: (q) => q.ready, cell: (q) => count(q.ready) },
    { id: 'unacked', title: 'Unacked', num: true, lesser: true, value: (q) => q.unacked, cell: (q) => count(q.unacked) },
    { id: 'consumers', title: 'Consumers', num: true, lesser: true, value: (q) => q.consumers, cell: (q) => count(q.consumers) },
    { id: 'in', title: 'In/s', num: true, value: (q) => q.in, cell: (q) => rate(q.in) },
    { id: 'out', title: 'Out/s', num: true, value: (q) => q.out, cell: (q) => rate(q.out) },
  ],
  exchanges: [
    { id: 'name', title: 'Exchange', value: (x) => shown(x.name), cell: (x) => open({ tab: 'exchanges', exchange: x.name || 'amq.default' }, shown(x.name), { className: 'name', 'data-act': 'open' }), class: 'wrap' },
    { id: 'type', title: 'Type', value: (x) => x.type },
    { id: 'durable', title: 'Durable', lesser: true, value: (x) => yes(x.durable) },
    { id: 'bindings', title: 'Bindings', num: true, value: (x) => x.bindings, cell: (x) => count(x.bindings) },
    { id: 'arguments', title: 'Arguments', lesser: true, value: (x) => table(x.arguments), class: 'wrap' },
  ],
  bindings: [
    { id: 'exchange', title: 'Exchange', value: (b) => b.exchange, cell: (b) => open({ tab: 'exchanges', exchange: b.exchange }, b.exchange), class: 'wrap' },
    { id: 'key', title: 'Routing key', value: (b) => b.routing_key, class: 'wrap mono' },
    { id: 'to', title: 'To', value: (b) => b.to, cell: (b) => b.to_exchange ? open({ tab: 'exchanges', exchange: b.to }, `${b.to} (exchange)`) : open({ queue: b.to }, b.to), class: 'wrap' },
    { id: 'arguments', title: 'Arguments', lesser: true, value: (b) => table(b.arguments), class: 'wrap' },
    { id: 'act', num: true, cell: (b) => el('button', { type: 'button', 'data-act': 'unbind', 'aria-label': `Remove the binding from ${b.exchange} to ${b.to}`, onclick: () => messaging.unbind(b) }, 'Remove') },
  ],
  connections: [
    { id: 'client', title: 'Client', value: (c) => c.client || c.name, class: 'wrap' },
    { id: 'name', title: 'Address', lesser: true, value: (c) => c.name, class: 'wrap mono' },
    { id: 'user', title: 'User', lesser: true, value: (c) => c.user },
    { id: 'state', title: 'State', value: (c) => c.state },
    { id: 'channels', title: 'Channels', num: true, value: (c) => c.channels, cell: (c) => count(c.channels) },
    { id: 'received', title: 'Received', num: true, value: (c) => c.received_bytes, cell: (c) => bytes(c.received_bytes) },
    { id: 'sent', title: 'Sent', num: true, lesser: true, value: (c) => c.sent_bytes, cell: (c) => bytes(c.sent_bytes) },
    { id: 'since', title: 'Since', lesser: true, value: (c) => c.connected_at, cell: (c) => c.connected_at ? clock(c.connected_at, false) : '–' },
  ],
  channels: [
    { id: 'client', title: 'Client', value: (c) => `${c.client || c.connection} ${c.number}`, class: 'wrap' },
    { id: 'consumers', title: 'Consumers', num: true, value: (c) => c.consumers, cell: (c) => count(c.consumers) },
    { id: 'prefetch', title: 'Prefetch', num: true, value: (c) => c.prefetch, cell: (c) => c.prefetch ? count(c.prefetch) : 'any' },
    { id: 'unacked', title: 'Unacked', num: true, value: (c) => c.unacked, cell: (c) => count(c.unacked) },
    { id: 'unconfirmed', title: 'Unconfirmed', num: true, lesser: true, value: (c) => c.unconfirmed, cell: (c) => count(c.unconfirmed) },
    { id: 'mode', title: 'Mode', lesser: true, value: (c) => c.transactional ? 'transactions' : c.confirms ? 'confirms' : '' },
  ],
  consumers: [
    { id: 'queue', title: 'Queue', value: (c) => c.queue, cell: (c) => open({ queue: c.queue }, c.queue), class: 'wrap' },
    { id: 'client', title: 'Client', value: (c) => c.client || c.connection, class: 'wrap' },
    { id: 'tag', title: 'Tag', lesser: true, value: (c) => c.tag, class: 'wrap mono' },
    { id: 'prefetch', title: 'Prefetch', num: true, value: (c) => c.prefetch, cell: (c) => c.prefetch ? count(c.prefetch) : 'any' },
    { id: 'acks', title: 'Acknowledges', value: (c) => yes(c.ack_required) },
    { id: 'active', title: 'Active', lesser: true, value: (c) => yes(c.active) },
  ],
};
const KEYS = {
  queues: (q) => q.name, exchanges: (x) => x.name, bindings: (b) => JSON.stringify([b.exchange, b.to, b.to_exchange, b.routing_key, b.arguments]),
  connections: (c) => c.name, channels: (c) => c.name, consumers: (c) => `${c.queue} ${c.connection} ${c.channel} ${c.tag}`,
};

export const messaging = {
  options: { tab: '', find: '', sort: '', queue: '', exchange: '' },
  data: null, problem: null, history: new Map(), table: null, timer: 0,

  enter(query) {
    for (const name of Object.keys(this.options)) this.options[name] = query.get(name) || '';
    if (!TABS.includes(this.options.tab)) this.options.tab = this.options.exchange ? 'exchanges' : 'queues';
    $('messaging-find').value = this.options.find;
    if (this.watched !== this.options.queue) watch.stop();
    this.tabs();
    this.make();
    this.load();
  },

  leave() { watch.stop(); clearTimeout(this.timer); },

  params(changes = {}) {
    const all = { ...this.options, ...changes };
    return { ...all, tab: all.tab === 'queues' || (all.tab === 'exchanges' && all.exchange) ? '' : all.tab };
  },
  remember(changes, opened = false) { Object.assign(this.options, changes); remember('messaging', this.params(), opened); this.show(); },

  async load() {
    clearTimeout(this.timer);
    if (page.view !== 'messaging' || document.hidden) return;
    const find = this.options.find.trim();
    const answer = page.alive && page.can.queues ? await fetch(`/api/messaging?${new URLSearchParams({ find: this.large ? find : '' })}`, { cache: 'no-store' }).catch(() => null) : null;
    if (answer) {
      const found = await answer.json().catch(() => null);
      if (answer.ok && found) { this.take(found); this.problem = null; } else if (found) this.problem = found;
      this.show();
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), EVERY_MS);
  },

  // Rates come from the counters of two answers, over about ten seconds, so that they are steady.
  take(found) {
    const now = Date.now() / 1000, clients = new Map(found.connections.map((c) => [c.name, c.client]));
    for (const c of [...found.channels, ...found.consumers]) c.client = clients.get(c.connection) || '';
    const bound = new Map();
    for (const b of found.bindings) bound.set(b.exchange, (bound.get(b.exchange) || 0) + 1);
    for (const x of found.exchanges) x.bindings = x.name === '' ? found.totals.queues : bound.get(x.name) || 0;
    const names = new Set();
    for (const q of found.queues) {
      names.add(q.name);
      const past = this.history.get(q.name) || [], before = past[Math.max(0, past.length - SPAN)], span = before ? now - before.at : 0;
      const speed = (field) => before && span > 0.5 ? Math.max(0, (q[field] - before[field]) / span) : null;
      Object.assign(q, { in: speed('published'), out: speed('delivered') });
      past.push({ at: now, published: q.published, delivered: q.delivered, ready: q.ready, in: q.in, out: q.out });
      if (past.length > KEEP) past.shift();
      this.history.set(q.name, past);
    }
    if (!this.large || !this.options.find) for (const name of this.history.keys()) if (!names.has(name)) this.history.delete(name);
    // Beyond what one answer has, names are searched by the stack.
    this.large = this.large || Object.keys(found.totals).some((kind) => found.totals[kind] > found[kind].length);
    this.data = found;
  },

  tabs() {
    $('messaging-tabs').replaceChildren(...TABS.map((tab) => el('a', { href: address('messaging', { tab: tab === 'queues' ? '' : tab, find: this.options.find }), 'aria-current': tab === this.options.tab ? 'true' : null, 'data-tab': tab }, tab[0].toUpperCase() + tab.slice(1), ' ', el('span', { className: 'n' }))));
  },

  make() {
    const tab = this.options.tab;
    if (this.made !== tab) {
      this.made = tab;
      this.table = new Table($('messaging-table'), { label: tab, columns: COLUMNS[tab], key: KEYS[tab], order: this.options.sort, onorder: (sort) => this.remember({ sort }), chosen: (row) => (tab === 'queues' && row.name === this.options.queue) || (tab === 'exchanges' && (row.name || 'amq.default') === this.options.exchange) });
    } else this.table.sort(this.options.sort);
    this.show();
  },

  show() {
    if (page.view !== 'messaging') return;
    const { tab } = this.options, broker = page.snapshot && page.snapshot.broker;
    if (broker) put($('broker-note'), [broker.mode, broker.url, broker.state + (broker.reason ? `: ${broker.reason}` : '')].filter(Boolean).join(' · '));
    const problem = !page.can.queues ? { message: 'This stack has no broker.' } : this.problem;
    $('messaging-problem').hidden = !problem;
    if (problem) put($('messaging-problem'), [problem.message, problem.hint].filter(Boolean).join(' – '));
    for (const link of $('messaging-tabs').children) put(link.lastChild, this.data ? count(this.data.totals[link.dataset.tab]) : '');
    $('declare').hidden = !['queues', 'exchanges'].includes(tab) || !page.can.queues;
    put($('declare'), tab === 'queues' ? 'Declare a queue' : 'Declare an exchange');
    $('messaging-picture').hidden = tab !== 'bindings' || !this.data;
    if (this.data) this.rows();
    this.panel();
  },

  rows() {
    const { tab } = this.options, needle = this.options.find.trim().toLowerCase();
    const fits = (row) => !needle || ['name', 'exchange', 'to', 'routing_key', 'queue', 'client', 'user', 'tag', 'connection'].some((k) => String(row[k] ?? '').toLowerCase().includes(needle));
    const rows = this.data[tab].filter(fits), total = this.data.totals[tab];
    this.table.show(rows);
    put($('messaging-count'), rows.length < total ? `${count(rows.length)} of ${count(total)}` : '');
    $('no-messaging').hidden = rows.length > 0;
    put($('no-messaging'), needle ? 'Nothing has this in its name.' : { queues: 'The broker has no queues yet.', exchanges: '', bindings: 'No queue is bound to an exchange; the default exchange reaches each by its name.', connections: 'No client is connected.', channels: 'No channel is open.', consumers: 'Nothing consumes.' }[tab]);
    const names = [...this.data.queues.map((q) => q.name)].slice(0, 200).join('\n');
    if (names !== this.known) { this.known = names; $('queue-names').replaceChildren(...names.split('\n').filter(Boolean).map((n) => el('option', { value: n }))); }
    const exchanges = this.data.exchanges.filter((x) => !x.internal).map((x) => x.name).join('\n');
    if (exchanges !== this.offered) {
      this.offered = exchanges;
      const select = $('publish-exchange'), value = select.value;
      select.replaceChildren(...exchanges.split('\n').map((n) => el('option', { value: n }, shown(n))));
      const wanted = this.aimed || value;
      this.aimed = '';
      select.value = exchanges.split('\n').includes(wanted) ? wanted : '';
    }
    if (tab === 'bindings') this.picture($('messaging-picture'), rows, '');
  },

  // Exchanges on the left, what they lead to on the right, with the routing keys on the lines.
  picture(host, bindings, current) {
    const drawn = bindings.slice(0, MOST_DRAWN), width = Math.floor(host.clientWidth);
    const key = JSON.stringify([drawn, current, width]);
    if (host.dataset.key === key || !width) return;
    host.dataset.key = key;
    const nodes = new Map(), types = new Map(this.data.exchanges.map((x) => [x.name, x.type])), ready = new Map(this.data.queues.map((q) => [q.name, q]));
    const exchange = (name) => nodes.set(`x ${name}`, { id: `x ${name}`, shape: 'exchange', tone: 'good', title: shown(name), sub: types.get(name) || 'exchange', right: '', current: current === `x ${name}`, href: address('messaging', { tab: 'exchanges', exchange: name }), label: `exchange ${name}` });
    const queue = (name) => { const q = ready.get(name); nodes.set(`q ${name}`, { id: `q ${name}`, shape: 'queue', tone: 'good', title: name, sub: q ? `${count(q.ready)} ready, ${plural(q.consumers, 'consumer')}` : 'queue', right: '', current: current === `q ${name}`, href: address('messaging', { queue: name }), label: `queue ${name}` }); };
    const lines = new Map();
    for (const b of drawn) {
      exchange(b.exchange);
      if (b.to_exchange) exchange(b.to); else queue(b.to);
      const to = `${b.to_exchange ? 'x' : 'q'} ${b.to}`, id = `x ${b.exchange}\n${to}`;
      lines.set(id, { from: `x ${b.exchange}`, to, keys: [...(lines.get(id)?.keys || []), b.routing_key || table(b.arguments) || 'no key'] });
    }
    const edges = [...lines.values()].map((e) => ({ ...e, tone: 'idle', label: e.keys.length > 2 ? `${e.keys.length} keys` : e.keys.join(', ').slice(0, 28), words: e.keys.join(', ') }));
    const scene = { nodes: [...nodes.values()], edges, words: `Bindings: ${edges.slice(0, 20).map((e) => `${e.from.slice(2)} to ${e.to.slice(2)} with ${e.keys.join(', ')}`).join('; ') || 'none'}` };
    host.replaceChildren(...(nodes.size ? [width < 480 ? list(scene) : draw({ ...scene, width, small: nodes.size > 24 })] : []),
      ...(bindings.length > MOST_DRAWN ? [el('p', { className: 'note' }, `The first ${MOST_DRAWN} of ${count(bindings.length)} are drawn.`)] : []));
  },

  panel() {
    const { queue, exchange } = this.options, side = $('messaging-panel'), name = exchange === 'amq.default' ? '' : exchange;
    const q = queue && this.data ? this.data.queues.find((one) => one.name === queue) : null, x = exchange && this.data ? this.data.exchanges.find((one) => one.name === name) : null;
    side.hidden = !queue && !exchange;
    side.parentNode.classList.toggle('open', !side.hidden);
    if (side.hidden) { this.paneled = ''; return; }
    const key = queue ? `q ${queue}` : `x ${name}`;
    if (this.paneled !== key) { this.paneled = key; this.frame(side, queue ? queue : shown(name), Boolean(queue)); if (queue) this.aim('', queue); else this.aim(name, ''); }
    put($('panel-note'), q ? [q.type, q.durable ? 'durable' : 'transient', q.exclusive && 'exclusive', q.auto_delete && 'auto-delete', q.policy && `policy ${q.policy}`].filter(Boolean).join(' · ') : x ? [`${x.type} exchange`, x.durable && 'durable', x.internal && 'internal', x.auto_delete && 'auto-delete'].filter(Boolean).join(' · ') : this.data ? 'It does not exist, or not any more.' : '');
    if (queue && page.snapshot) watch.how(page.snapshot.broker.mode === 'embedded');
    if (!this.data) return;
    if (q) this.figures(q);
    const facts = Object.entries((q || x || { arguments: {} }).arguments);
    if ($('panel-arguments').dataset.key !== JSON.stringify(facts)) {
      $('panel-arguments').dataset.key = JSON.stringify(facts);
      $('panel-arguments').replaceChildren(...facts.flatMap(([k, v]) => [el('dt', {}, k), el('dd', { className: 'mono' }, typeof v === 'object' ? JSON.stringify(v) : String(v))]));
    }
    const bound = this.data.bindings.filter((b) => queue ? b.to === queue && !b.to_exchange : b.exchange === name || (b.to === name && b.to_exchange));
    put($('panel-bound'), queue && !bound.length ? 'Only the default exchange reaches it, by its name.' : !queue && name === '' ? 'Reaches every queue by its name.' : bound.length ? '' : 'Nothing is bound to it.');
    this.picture($('panel-picture'), bound, queue ? `q ${queue}` : `x ${name}`);
    if (queue) {
      const consumers = this.data.consumers.filter((c) => c.queue === queue);
      put($('panel-consumers'), consumers.map((c) => `${c.client || c.connection} (prefetch ${c.prefetch || 'any'}${c.ack_required ? '' : ', no acks'})`).join(', ') || 'none');
    }
  },

  frame(side, title, isQueue) {
    const name = isQueue ? this.options.queue : this.options.exchange, button = (text, onclick, more = {}) => el('button', { type: 'button', onclick, ...more }, text);
    side.replaceChildren(
      el('button', { type: 'button', className: 'quiet close', 'aria-label': 'Close', onclick: () => this.close() }, '✕'),
      el('h3', {}, title), el('p', { className: 'note', id: 'panel-note' }),
      el('div', { className: 'tools' }, ...(isQueue ? [
        button('Move messages', () => this.done(moveDialog(name))), button('Requeue dead letters', () => this.requeue(name)), button('Bind', () => this.done(bindDialog({ queue: name, exchanges: this.data ? this.data.exchanges : [] }))),
        button('Purge', () => this.done(confirm(`Purge ${name}?`, 'Its ready messages are lost.', 'Purge', '/api/messaging/purge-queue', { name })), { className: 'danger' }),
        button('Delete', () => this.done(confirm(`Delete ${name}?`, 'The queue and its messages are lost, and its consumers are cancelled.', 'Delete', '/api/messaging/delete-queue', { name }), true), { className: 'danger' }),
      ] : name === 'amq.default' ? [] : [
        button('Bind a queue', () => this.done(bindDialog({ exchange: name, exchanges: [] }))),
        ...(name.startsWith('amq.') ? [] : [button('Delete', () => this.done(confirm(`Delete ${name}?`, 'The exchange and its bindings are lost.', 'Delete', '/api/messaging/delete-exchange', { name }), true), { className: 'danger' })]),
      ])),
      ...(isQueue ? [el('dl', { className: 'figures inner', id: 'panel-figures' }), el('div', { className: 'charts', id: 'panel-charts' })] : []),
      el('dl', { id: 'panel-arguments', className: 'facts' }),
      el('h4', {}, 'Bindings'), el('p', { className: 'note', id: 'panel-bound' }), el('div', { id: 'panel-picture', className: 'topology', role: 'region', 'aria-label': 'Bindings, drawn', tabIndex: 0 }),
      ...(isQueue ? [el('h4', {}, 'Consumers'), el('p', { id: 'panel-consumers', className: 'wrap' }), ...watch.parts(name)] : []));
    this.watched = isQueue ? name : '';
  },

  figures(q) {
    const facts = [['Ready', count(q.ready)], ['Unacked', count(q.unacked)], ['In', `${rate(q.in)}/s`], ['Out', `${rate(q.out)}/s`], ['Bytes', bytes(q.bytes)]], holder = $('panel-figures');
    if (!holder.children.length) holder.replaceChildren(...facts.map(([name]) => el('div', {}, el('dt', {}, name), el('dd'))));
    facts.forEach(([, value], i) => put(holder.children[i].lastChild, value));
    const past = this.history.get(q.name) || [], series = (field) => past.map((p) => [p.at * 1000, p[field]]);
    $('panel-charts').replaceChildren(chart('Ready', series('ready'), count), chart('In per second', series('in'), rate), chart('Out per second', series('out'), rate));
  },

  // The form to publish follows what is open.
  aim(exchange, key) {
    this.aimed = this.data ? '' : exchange;
    $('publish-exchange').value = exchange;
    $('publish-key').value = key;
  },

  async done(asked, closes = false) {
    if (!await asked) return;
    announce('done');
    if (closes) this.close();
    await this.load();
  },

  async requeue(name) {
    const problem = await act('/api/messaging/requeue', { name }, (found) => { put($('panel-note'), `${plural(found.messages, 'dead letter')} went back${found.left ? `; ${plural(found.left, 'message')} are no dead letters and stayed` : ''}.`); announce($('panel-note').textContent); });
    if (problem) showError(problem);
  },

  async unbind(b) {
    await this.done(confirm('Remove the binding?', `${b.exchange} then no longer sends to ${b.to} with the key “${b.routing_key}”.`, 'Remove', '/api/messaging/unbind', { exchange: b.exchange, to: b.to, to_exchange: b.to_exchange, routing_key: b.routing_key, arguments: b.arguments }));
  },

  close() {
    const { queue, exchange, tab } = this.options;
    watch.stop();
    this.remember({ queue: '', exchange: '', tab: exchange ? 'exchanges' : tab }, true);
    this.table.again();
    document.querySelector(`#messaging-table tr[data-key="${CSS.escape(queue || (exchange === 'amq.default' ? '' : exchange))}"] a`)?.focus();
  },

  escape() { if (this.options.queue || this.options.exchange) { this.close(); return true; } return false; },
};
$('messaging-find').addEventListener('input', () => { messaging.remember({ find: $('messaging-find').value }); if (messaging.large) messaging.load(); });
$('messaging-form').addEventListener('submit', (event) => event.preventDefault());
$('declare').addEventListener('click', () => messaging.done(messaging.options.tab === 'queues' ? declareQueue() : declareExchange()));
new ResizeObserver(() => { if (page.view === 'messaging' && messaging.data) messaging.show(); }).observe($('messaging-picture'));
