// The list of traces, and one of them as a waterfall.
import { page } from './state.js';
import { $, clip, clock, duration, el, mark, plural, put } from './tools.js';

export const traces = {
  chosen: null, live: true, timer: 0, rows: [],

  async load() {
    clearTimeout(this.timer);
    if (page.view !== 'traces' || document.hidden) return;
    if (page.alive && page.can.traces) {
      const query = this.query();
      query.set('limit', 200);
      const answer = await fetch(`/api/traces?${query}`, { cache: 'no-store' }).catch(() => null);
      if (answer && answer.ok) this.show(await answer.json());
    }
    if (this.live) this.timer = setTimeout(() => this.load(), 2000);
  },

  // The filters, as the address has them.
  query() {
    const query = new URLSearchParams();
    const service = $('trace-service').value || $('trace-service').dataset.wanted;
    if (service) query.set('service', service);
    if ($('trace-text').value.trim()) query.set('text', $('trace-text').value.trim());
    if ($('trace-status').value) query.set('status', $('trace-status').value);
    if ($('trace-errors').checked) query.set('errors', 1);
    if ($('trace-min').value) query.set('min_ms', Math.round(Number($('trace-min').value) || 0));
    return query;
  },

  // Takes what the address says, and opens the trace that it names.
  enter(query) {
    $('trace-service').dataset.wanted = $('trace-service').value = query.get('service') || '';
    $('trace-text').value = query.get('text') || '';
    $('trace-status').value = query.get('status') || '';
    $('trace-errors').checked = query.has('errors');
    $('trace-min').value = query.get('min_ms') || '';
    this.load();
    if (query.has('id')) this.open(query.get('id'));
  },

  remember() {
    const query = this.query();
    if (this.chosen) query.set('id', this.chosen);
    history.replaceState(null, '', `#/traces${query.size ? `?${query}` : ''}`);
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
    this.remember();
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
    this.remember();
    $('trace').hidden = true;
    $('trace').parentNode.classList.remove('open');
    for (const row of $('trace-rows').children) mark(row, '');
    const back = id && document.querySelector(`[data-trace="${CSS.escape(id)}"]`);
    if (back) back.focus();
  },
};
$('trace-filter').addEventListener('submit', (event) => event.preventDefault());
$('trace-filter').addEventListener('input', () => { $('trace-service').dataset.wanted = ''; traces.remember(); traces.load(); });
$('trace-live').addEventListener('click', () => {
  traces.live = !traces.live;
  $('trace-live').setAttribute('aria-pressed', String(traces.live));
  traces.load();
});
$('trace').addEventListener('keydown', (event) => { if (event.key === 'Escape') traces.close(); });
