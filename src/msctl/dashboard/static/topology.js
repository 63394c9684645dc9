// Who calls whom: what traces have shown, with the configuration dashed beneath it.
import { address, remember } from './address.js';
import { around, build, busy, failing, group, search } from './graph.js';
import { draw, list } from './picture.js';
import { GOOD, breakerOpen, page } from './state.js';
import { $, duration, el, plural, put, rate } from './tools.js';

const EVERY_MS = 3000, NARROW = 620, MOST = { overview: 14, topology: 36 }, LABELS = 16;
const DEPTHS = ['1', '2', '3'];

export const topology = {
  calls: [], failed: 0, traces: 0, widths: { overview: 0, topology: 0 }, timer: 0,
  options: { find: '', focus: '', depth: '1', group: '', open: '' },

  enter(query) {
    for (const name of Object.keys(this.options)) this.options[name] = query.get(name) || (name === 'depth' ? '1' : '');
    $('topology-find').value = this.options.find;
    this.load();
    if (page.snapshot) this.show(page.snapshot);
  },

  remember(changes, opened = false) {
    Object.assign(this.options, changes);
    remember('topology', this.params(), opened);
    if (page.snapshot) this.show(page.snapshot);
  },

  params(changes = {}) {
    const all = { ...this.options, ...changes };
    return { ...all, depth: all.focus && all.depth !== '1' ? all.depth : '' };
  },

  link(changes) { return address('topology', this.params(changes)); },

  // The calls that traces have, asked for while somebody looks.
  async load() {
    clearTimeout(this.timer);
    if (!['overview', 'topology', 'service'].includes(page.view) || document.hidden) return;
    const answer = page.alive && page.can.traces ? await fetch('/api/calls', { cache: 'no-store' }).catch(() => null) : null;
    if (answer && answer.ok) {
      const found = await answer.json();
      Object.assign(this, { calls: found.calls, traces: found.traces, failed: found.failed });
      if (page.snapshot) this.show(page.snapshot);
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), EVERY_MS);
  },

  show(snapshot) {
    const where = page.view;
    if (!(where in MOST) || !this.widths[where]) return;
    const whole = build(snapshot, this.calls);
    const key = JSON.stringify([where, this.widths[where], this.options, whole.nodes.map((n) => [n.id, n.tone, n.service && [n.service.state, n.service.reason, n.service.requests_per_s, n.service.p95_s], n.queue && [n.queue.ready, n.queue.consumers]]), whole.edges]);
    if (key === this.drawn) return;
    this.drawn = key;
    if (where === 'overview') this.card(whole); else this.whole(whole);
  },

  card(whole) {
    const folded = group(whole, MOST.overview);
    put($('overview-topology-note'), folded.groups.length ? `${plural(whole.nodes.length, 'service and queue', 'services and queues')} in ${plural(folded.nodes.length, 'box', 'boxes')}` : '');
    this.into($('overview-topology'), this.scene(folded, 'overview'), 'overview');
  },

  whole(graph) {
    const { find, focus, depth, group: grouping, open } = this.options;
    const known = graph.nodes.some((n) => n.id === focus);
    let shown = graph, said = `${plural(graph.nodes.length, 'service and queue', 'services and queues')}, ${plural(graph.edges.filter(busy).length, 'observed connection')}`;
    if (focus && known) {
      shown = around(graph, [focus], Number(depth) || 1);
      if (depth === '1') shown.edges = shown.edges.filter((e) => e.from === focus || e.to === focus);
      said = `${plural(shown.nodes.length - 1, 'neighbour')} of ${graph.nodes.find((n) => n.id === focus).name}`;
    } else if (find.trim()) {
      shown = search(graph, find);
      said = plural(shown.hits, 'match', 'matches');
    }
    const opened = new Set(open ? open.split(',') : []);
    const folded = grouping === 'none' || (focus && known) ? { ...shown, groups: [] } : group(shown, MOST.topology, opened);
    put($('topology-note'), `${said}${this.traces ? `, from ${plural(this.traces, 'trace')}` : ''}`);
    const tools = $('topology-tools');
    tools.replaceChildren(
      ...(focus ? [el('span', { className: 'chip' }, known ? graph.nodes.find((n) => n.id === focus).name : focus, el('a', { href: this.link({ focus: '' }), className: 'x', 'aria-label': 'Show everything' }, '✕')),
        el('span', { className: 'seg', role: 'group', 'aria-label': 'Steps' }, ...DEPTHS.map((n) => el('a', { href: this.link({ depth: n }), 'aria-current': n === depth ? 'true' : null }, `${n} ${n === '1' ? 'step' : 'steps'}`)))] : []),
      ...(!focus && graph.nodes.length > MOST.topology ? [el('a', { className: 'button', href: this.link({ group: grouping === 'none' ? '' : 'none', open: '' }), 'aria-pressed': null }, grouping === 'none' ? 'Group' : 'Ungroup')] : []),
      ...[...opened].filter((key) => folded.groups.some((g) => g.key === key)).map((key) => el('span', { className: 'chip' }, `${key}-*`, el('a', { href: this.link({ open: [...opened].filter((k) => k !== key).join(',') }), className: 'x', 'aria-label': `Fold ${key}` }, '✕'))));
    $('no-topology').hidden = folded.nodes.length > 0;
    put($('no-topology'), find.trim() ? 'Nothing has this name.' : 'Nothing runs here yet.');
    this.into($('topology-picture'), this.scene(folded, 'topology'), 'topology');
    this.panel(graph, known ? focus : '');
  },

  into(holder, scene, where) {
    const focused = holder.contains(document.activeElement) && document.activeElement.dataset.node, left = holder.scrollLeft, top = holder.scrollTop;
    holder.replaceChildren(this.widths[where] < NARROW ? list(scene) : draw({ ...scene, width: this.widths[where], small: scene.nodes.length > 18 }));
    holder.scrollLeft = left;
    holder.scrollTop = top;
    if (focused) holder.querySelector(`[data-node="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  },

  scene(graph, where) {
    const few = graph.edges.filter(busy).length <= LABELS, opened = this.options.open;
    return {
      words: this.words(graph),
      nodes: graph.nodes.map((n) => ({ ...this.box(n), hit: n.hit, current: where === 'topology' && n.id === this.options.focus,
        href: n.kind === 'group' ? address('topology', where === 'topology' ? this.params({ open: [opened, n.key].filter(Boolean).join(',') }) : { open: n.key }) : where === 'topology' ? this.link({ focus: n.id, find: '' }) : n.kind === 'service' ? address('service', { name: n.name }) : address('topology', { focus: n.id }) })),
      edges: graph.edges.map((e) => ({ from: e.from, to: e.to, tone: failing(e) ? 'err' : busy(e) ? 'on' : 'idle', dashed: !busy(e),
        weight: e.perS > 0 ? Math.min(4, 1.4 + Math.log10(1 + e.perS)).toFixed(1) : busy(e) ? 1.5 : 1.1,
        label: busy(e) && (few || failing(e)) ? this.figure(e) : '', words: this.sentence(e, graph) })),
    };
  },

  figure(e) {
    const fails = e.errors ? `, ${e.errors.toLocaleString('en')} failed` : e.failsPerS > 0 ? `, ${rate(e.failsPerS)}/s failed` : '';
    return (e.perS > 0 ? `${rate(e.perS)}/s` : e.count ? `${e.count.toLocaleString('en')}×` : '') + fails;
  },

  sentence(e, graph) {
    const name = (id) => graph.nodes.find((n) => n.id === id).name;
    return `${name(e.from)} → ${name(e.to)}: ${busy(e) ? [this.figure(e), e.p95 !== null ? `p95 ${duration(e.p95)}` : ''].filter(Boolean).join(', ') || 'observed' : 'configured, not observed'}`;
  },

  box(n) {
    if (n.kind === 'group') return { id: n.id, shape: 'group', tone: n.tone, title: n.name, sub: plural(n.members.length, 'member'), right: n.perS > 0 ? `${rate(n.perS)}/s` : String(n.members.length), label: `${n.name}, ${n.members.length} members: open the group` };
    if (n.kind === 'queue') { const q = n.queue; return { id: n.id, shape: 'queue', tone: n.tone, title: n.name, sub: q ? `${q.ready.toLocaleString('en')} ready, ${plural(q.consumers, 'consumer')}` : 'queue', right: q && q.ready ? q.ready.toLocaleString('en') : '', label: `queue ${n.name}` }; }
    if (n.kind === 'outside') return { id: n.id, shape: 'outside', tone: n.tone, title: n.name, sub: 'outside this stack', right: '', label: `${n.name}, outside this stack` };
    const s = n.service, fine = GOOD.has(s.state) && !breakerOpen(s);
    return { id: n.id, shape: 'service', tone: n.tone, title: n.name, sub: fine ? [s.requests_per_s > 0 ? `${rate(s.requests_per_s)}/s` : '', s.routes[0] || s.addresses[0] || s.kind].filter(Boolean).join(' · ') : s.reason || s.state,
      right: fine ? s.p95_s !== null ? duration(s.p95_s) : '' : s.state, label: `${n.name}, ${s.state}${s.reason ? `: ${s.reason}` : ''}` };
  },

  words(graph) {
    const seen = graph.edges.filter(busy).slice(0, 20).map((e) => this.sentence(e, graph));
    return `Topology. ${seen.join('; ') || 'No traffic.'}`;
  },

  // What the node in focus calls and what calls it, with figures: the picture as a table.
  panel(graph, focus) {
    const side = $('topology-panel');
    side.hidden = !focus;
    if (!focus) return;
    const node = graph.nodes.find((n) => n.id === focus), name = (id) => graph.nodes.find((n) => n.id === id).name;
    const rows = graph.edges.filter((e) => e.from === focus || e.to === focus).sort((a, b) => b.errors - a.errors || b.count - a.count);
    const more = node.kind === 'service' ? el('a', { href: address('service', { name: node.name }) }, 'its page') : node.kind === 'queue' ? el('a', { href: address('messaging', { queue: node.name }) }, 'the queue') : 'outside this stack';
    side.replaceChildren(
      el('button', { type: 'button', className: 'quiet close', 'aria-label': 'Close', onclick: () => this.close() }, '✕'),
      el('h3', {}, node.name), el('p', { className: 'note' }, more),
      el('div', { className: 'scroll', role: 'region', 'aria-label': 'Connections', tabIndex: 0 }, el('table', { className: 'plain', 'aria-label': `Connections of ${node.name}` },
        el('thead', {}, el('tr', {}, ...[['Connection'], ['Seen', 'num'], ['Failed', 'num'], ['p95', 'num']].map(([t, c]) => el('th', { scope: 'col', className: c || '' }, t)))),
        el('tbody', {}, ...rows.map((e) => { const other = e.from === focus ? e.to : e.from; return el('tr', {},
          el('th', { scope: 'row' }, e.from === focus ? '→ ' : '← ', el('a', { href: this.link({ focus: other }) }, name(other))),
          el('td', { className: 'num' }, busy(e) ? this.figure({ ...e, errors: 0, failsPerS: 0 }) || '–' : 'configured'),
          el('td', { className: `num${e.errors ? ' bad' : ''}` }, e.trace && e.errors ? el('a', { href: address('traces', { id: e.trace, errors: true }) }, e.errors.toLocaleString('en')) : String(e.errors || 0)),
          el('td', { className: 'num' }, e.p95 === null ? '–' : e.trace ? el('a', { href: address('traces', { id: e.trace }) }, duration(e.p95)) : duration(e.p95))); })))),
      ...(rows.length ? [] : [el('p', { className: 'note' }, 'Nothing calls it, and it calls nothing.')]));
  },

  close() {
    const focus = this.options.focus;
    this.remember({ focus: '' }, true);
    document.querySelector(`#topology-picture [data-node="${CSS.escape(focus)}"]`)?.focus();
  },

  escape() { if (this.options.focus) { this.close(); return true; } return false; },
};
for (const [where, id] of [['overview', 'overview-topology'], ['topology', 'topology-picture']]) {
  new ResizeObserver((entries) => {
    const width = Math.floor(entries[0].contentRect.width);
    if (width && Math.abs(width - topology.widths[where]) > 2) { topology.widths[where] = width; if (page.snapshot) topology.show(page.snapshot); }
  }).observe($(id));
}
$('topology-find').addEventListener('input', () => topology.remember({ find: $('topology-find').value, focus: '' }));
$('topology-form').addEventListener('submit', (event) => event.preventDefault());
