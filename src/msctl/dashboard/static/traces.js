// The list of traces, of this run or an earlier one, and one of them as a waterfall.
import { address, remember } from './address.js';
import { logs } from './logs.js';
import { sortable, sorted } from './sorting.js';
import { extent, raised, raisedAt, request, title, tree } from './span_tree.js';
import { page } from './state.js';
import { $, clip, clock, duration, el, mark, plural, put } from './tools.js';

const LINES = 200;
const VALUES = { time: (t) => t.start, name: request, services: (t) => t.services.join(), spans: (t) => t.spans, status: (t) => (t.error ? 1000 : 0) + (t.status || 0), duration: (t) => t.duration_s };

// Paths below the project's folder are shown from there.
const fromRoot = (text) => page.snapshot?.root ? text.replaceAll(`${page.snapshot.root}/`, '') : text;

export async function getTrace(run, id) {
  const answer = await fetch(`/api/traces/${encodeURIComponent(id)}${run ? `?${new URLSearchParams({ run })}` : ''}`, { cache: 'no-store' }).catch(() => null);
  if (answer && answer.ok) return { trace: await answer.json() };
  return { problem: (answer && await answer.json().catch(() => ({}))).message || 'The stack does not respond.' };
}

export const traces = {
  chosen: null, live: true, timer: 0, found: [], order: '', run: '', rows: new Map(),

  async load() {
    clearTimeout(this.timer);
    if (page.view !== 'traces' || document.hidden) return;
    if (page.alive && page.can.traces) {
      const asked = () => new URLSearchParams(Object.entries(this.filters()).filter(([, v]) => v)).toString();
      const before = asked(), query = new URLSearchParams(before);
      query.set('limit', 200);
      const answer = await fetch(`/api/traces?${query}`, { cache: 'no-store' }).catch(() => null);
      const found = answer && answer.ok ? await answer.json() : null;
      // With other filters by now, another answer is on its way.
      if (before === asked() && found) { this.found = found; this.show(); }
      else if (answer && !answer.ok) { const problem = await answer.json().catch(() => ({})); put($('trace-count'), problem.message || 'The traces cannot be read.'); }
    }
    clearTimeout(this.timer);
    if (this.live && !$('trace-run').value) this.timer = setTimeout(() => this.load(), 2000);
  },

  // The filters, as the address has them.
  filters() {
    return {
      run: $('trace-run').value || $('trace-run').dataset.wanted || '', service: $('trace-service').value || $('trace-service').dataset.wanted || '',
      text: $('trace-text').value.trim(), status: $('trace-status').value, errors: $('trace-errors').checked ? '1' : '',
      min_ms: $('trace-min').value ? Math.round(Number($('trace-min').value) || 0) : '',
    };
  },

  // Takes what the address says, and opens the trace that it names.
  enter(query) {
    for (const id of ['run', 'service']) $(`trace-${id}`).dataset.wanted = $(`trace-${id}`).value = query.get(id) || '';
    $('trace-text').value = query.get('text') || '';
    $('trace-status').value = query.get('status') || '';
    $('trace-errors').checked = query.has('errors');
    $('trace-min').value = query.get('min_ms') || '';
    this.order = query.get('sort') || '';
    this.mark();
    this.runs();
    this.turn();
    this.load();
    const id = query.get('id');
    if (id && id !== this.opened) this.open(id, false); else if (!id) this.shut();
  },

  // The rows of one run must not be taken for those of another.
  turn() {
    const { run } = this.filters();
    if (run === this.run) return;
    this.run = run;
    this.found = [];
    this.show();
  },

  // The runs that one can look at, beside the one under way.
  async runs() {
    $('trace-run').parentNode.hidden = !page.can.runs;
    if (!page.can.runs) return;
    const answer = await fetch('/api/runs', { cache: 'no-store' }).catch(() => null);
    if (!answer || !answer.ok) return;
    const select = $('trace-run'), wanted = select.value || select.dataset.wanted || '';
    const found = (await answer.json()).filter((r) => r.run !== page.can.run);
    select.replaceChildren(el('option', { value: '' }, 'this one'), ...found.map((r) => el('option', { value: r.run }, `${new Date(r.began * 1000).toLocaleDateString('en-CA')} ${clock(r.began, false)}`)));
    select.value = wanted;
  },

  remember(opened = false) { remember('traces', { ...this.filters(), sort: this.order, id: this.chosen }, opened); },

  show() {
    const found = sorted(this.found, this.order, VALUES);
    $('no-traces').hidden = found.length > 0;
    const filtered = Object.values(this.filters()).some(Boolean);
    put($('no-traces'), filtered ? 'No trace matches these filters.' : 'No traces yet. Send a request through the gateway to see one.');
    put($('trace-count'), plural(found.length, 'trace'));
    // Rows stay where their trace has not changed, so that a click or the focus is not lost to a newer trace.
    const longest = Math.max(...found.map((t) => t.duration_s), 1e-9), body = $('trace-rows'), kept = new Set();
    let before = null;
    for (const t of found) {
      const stamp = JSON.stringify(t), old = this.rows.get(t.trace_id);
      if (old?.stamp !== stamp) {
        const row = this.row(t), focused = old && old.node.contains(document.activeElement);
        if (old) old.node.replaceWith(row);
        this.rows.set(t.trace_id, { stamp, node: row });
        if (focused) row.querySelector('button').focus();
      }
      const { node } = this.rows.get(t.trace_id);
      kept.add(t.trace_id);
      mark(node, t.trace_id === this.chosen ? 'chosen' : '');
      node.querySelector('.bars i').style.width = `${Math.max(2, t.duration_s / longest * 100)}%`;
      if (node.parentNode !== body || node.previousElementSibling !== before) body.insertBefore(node, before ? before.nextSibling : body.firstChild);
      before = node;
    }
    for (const [id, { node }] of this.rows) if (!kept.has(id)) { node.remove(); this.rows.delete(id); }
    // SDKs send their spans seconds later: an open trace grows.
    const open = found.find((t) => t.trace_id === this.chosen);
    if (open && this.spans && open.spans !== this.spans) this.open(open.trace_id, false);
  },

  row(t) {
    return el('tr', { role: 'row', 'data-id': t.trace_id, onclick: () => this.open(t.trace_id) },
      el('td', { role: 'cell', className: 'mono' }, clock(t.start)),
      el('td', { role: 'cell' }, el('button', { type: 'button', className: 'link', title: request(t), 'data-trace': t.trace_id }, el('bdi', {}, clip(request(t), 64)))),
      el('td', { role: 'cell' }, clip(t.services.join(' → '), 48)),
      el('td', { role: 'cell', className: 'num' }, String(t.spans)),
      el('td', { role: 'cell', className: t.error ? 'num bad' : 'num' }, t.error ? `${t.status ?? ''} error`.trim() : String(t.status ?? 'ok')),
      el('td', { role: 'cell', className: 'num' }, duration(t.duration_s), el('span', { className: t.error ? 'bars err' : 'bars', 'aria-hidden': 'true' }, el('i'))));
  },

  async open(id, remembered = true) {
    this.chosen = this.opened = id;
    this.spans = 0;
    if (remembered) this.remember(true);
    for (const row of $('trace-rows').children) mark(row, row.dataset.id === id ? 'chosen' : '');
    const run = this.filters().run, { trace, problem } = await getTrace(run, id);
    if (this.chosen !== id) return;
    const side = $('trace');
    side.hidden = false;
    side.parentNode.classList.add('open');
    const close = el('button', { type: 'button', className: 'quiet close', 'aria-label': 'Close', onclick: () => this.close() }, '✕');
    if (problem) { side.replaceChildren(close, el('p', { className: 'note' }, problem)); return; }
    this.spans = trace.spans.length + trace.dropped;
    const spans = trace.spans, { begin, seconds } = extent(spans), first = spans.find(raised);
    side.replaceChildren(close, el('h3', {}, el('bdi', {}, spans[0].name)),
      el('p', { className: 'note' }, `${duration(seconds)} · ${plural(spans.length, 'span')}${trace.dropped ? `, ${trace.dropped} more dropped` : ''} · ${clock(begin)} · `,
        ...(run ? [] : [el('a', { href: address('logs', { trace: trace.trace_id }) }, 'log lines'), ' · ']), el('a', { href: address('compare', { a: `${run}:${trace.trace_id}` }) }, 'compare')),
      el('p', { className: 'note id mono' }, trace.trace_id),
      ...(first ? [this.cause(first)] : []),
      waterfall(spans, begin, seconds), ...this.lines(trace.trace_id, run));
    if (remembered && side.contains(document.activeElement) === false && innerWidth <= 900) side.scrollIntoView({ block: 'nearest' });
  },

  // What went wrong first, before one opens any span.
  cause(span) {
    const event = span.events.find((e) => e.name === 'exception'), stack = event && event.attributes['exception.stacktrace'], at = stack ? fromRoot(raisedAt(stack)) : '';
    return el('div', { className: 'cause' }, el('p', {}, el('b', {}, span.service), ` ${raised(span)}`), ...(at ? [el('p', { className: 'mono' }, at)] : []));
  },

  // The lines that its services logged while they handled it, as far as this page has them.
  lines(id, run) {
    if (run) return [];
    const found = logs.of_trace(id, LINES);
    if (!found.length) return [];
    return [el('h4', {}, 'Log lines'), el('ol', { className: 'output', tabIndex: 0, 'aria-label': 'Log lines of this trace' }, ...found.map((line) => el('li', { className: line[3] }, el('span', { className: 'when' }, clock(line[1])), ' ', el('b', {}, line[2]), ' ', clip(line[4], 4000))))];
  },

  shut() {
    this.chosen = this.opened = null;
    $('trace').hidden = true;
    $('trace').parentNode.classList.remove('open');
    for (const row of $('trace-rows').children) mark(row, '');
  },

  close() {
    const id = this.chosen;
    this.shut();
    this.remember(true);
    const back = id && document.querySelector(`[data-trace="${CSS.escape(id)}"]`);
    if (back) back.focus();
  },

  escape() { if (this.chosen) { this.close(); return true; } return false; },
};

// A row a span, which opens: attributes and events. What was raised is said in the row, and its stack trace is open.
export function waterfall(spans, begin, seconds) {
  return el('ol', { className: 'waterfall', 'aria-label': 'Spans by start time' }, ...tree(spans).map(([span, depth]) => {
    const bar = el('i'), why = raised(span);
    bar.style.left = `${(span.start - begin) / seconds * 100}%`;
    bar.style.width = `${span.duration_s / seconds * 100}%`;
    const label = el('span', { className: 'label', title: `${span.service}: ${title(span)} (${span.kind})` }, el('b', {}, span.service), ' ', el('bdi', {}, title(span)));
    label.style.paddingLeft = `${Math.min(depth, 10) * 12}px`;
    return el('li', { className: span.kind + (span.error ? ' err' : '') }, el('details', { open: span.events.some((e) => e.attributes['exception.stacktrace']) },
      el('summary', { className: 'span' }, label, el('span', { className: 'track', 'aria-hidden': 'true' }, bar),
        el('span', { className: 'took' }, el('span', { className: 'sr' }, `${span.error ? 'failed, ' : ''}after ${duration(span.start - begin)}, took `), duration(span.duration_s)),
        ...(why ? [el('span', { className: 'why' }, why)] : [])),
      facts(span, begin)));
  }));
}

// Attributes and events of a span; what was raised comes first.
export function facts(span, begin) {
  const list = (attributes) => el('dl', {}, ...Object.entries(attributes).filter(([k]) => k !== 'exception.stacktrace').flatMap(([k, v]) => [el('dt', {}, k), el('dd', {}, String(v))]));
  return el('div', { className: 'facts' },
    ...span.events.map((e) => el('section', {}, el('h4', {}, `${e.name}, after ${duration(Math.max(0, e.time - begin))}`), list(e.attributes),
      e.attributes['exception.stacktrace'] ? el('pre', { tabIndex: 0 }, fromRoot(e.attributes['exception.stacktrace'])) : '')), list(span.attributes));
}

traces.mark = sortable(document.querySelector('#traces thead'), () => traces.order, (to) => { traces.order = to; traces.remember(); traces.show(); });
$('trace-filter').addEventListener('submit', (event) => event.preventDefault());
$('trace-filter').addEventListener('input', () => { $('trace-service').dataset.wanted = $('trace-run').dataset.wanted = ''; traces.turn(); traces.remember(); traces.load(); });
$('trace-live').addEventListener('click', () => {
  traces.live = !traces.live;
  $('trace-live').setAttribute('aria-pressed', String(traces.live));
  traces.load();
});
