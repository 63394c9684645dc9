// The picture of services, queues and what flows between them.
import { BAD, GOOD, breakerOpen, condition, health, page } from './state.js';
import { $, clip, duration, plural, put, rate, svg } from './tools.js';

const MAX_NODES = 12, COMPACT_ABOVE = 7;

export const topology = {
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
