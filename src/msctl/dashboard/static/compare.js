// Two traces side by side: of this run and an earlier one, or both of one run.
import { address, remember } from './address.js';
import { extent, merge, raised } from './span_tree.js';
import { page } from './state.js';
import { facts, getTrace } from './traces.js';
import { $, clock, duration, el, plural, put } from './tools.js';

const SIDES = ['a', 'b'], LIST = 50;
const split = (text) => { const at = text.lastIndexOf(':'); return { run: text.slice(0, Math.max(at, 0)), id: text.slice(at + 1) }; };
const join = ({ run, id }) => id ? `${run}:${id}` : '';

export const compare = {
  a: { run: '', id: '' }, b: { run: '', id: '' }, traces: {}, lists: {}, runs: [],

  async enter(query) {
    for (const side of SIDES) this[side] = split(query.get(side) || '');
    const turn = this.turn = {};
    const answer = page.can.runs ? await fetch('/api/runs', { cache: 'no-store' }).catch(() => null) : null;
    this.runs = answer && answer.ok ? (await answer.json()).filter((r) => r.run !== page.can.run) : [];
    await this.side('a', turn);
    const name = this.name('a');
    // Without a second trace: the newest of the same name, in the run before this one if it has one, else in the same.
    if (!this.b.id && name) {
      for (const run of [...this.runs.map((r) => r.run).filter((r) => r !== this.a.run).slice(0, 3), this.a.run]) {
        const found = (await this.list(run, name)).find((t) => t.trace_id !== this.a.id);
        if (found) { this.b = { run, id: found.trace_id }; break; }
      }
    }
    await this.side('b', turn);
    if (turn !== this.turn) return;
    this.remember();
    this.show();
  },

  name(side) { const trace = this.traces[side]; return trace ? trace.spans[0].name : ''; },
  remember(opened = false) { remember('compare', { a: join(this.a), b: join(this.b) }, opened); },

  async list(run, name) {
    const query = new URLSearchParams({ limit: LIST, ...(name ? { text: name } : {}), ...(run ? { run } : {}) });
    const answer = await fetch(`/api/traces?${query}`, { cache: 'no-store' }).catch(() => null);
    return answer && answer.ok ? (await answer.json()).filter((t) => !name || t.name === name) : [];
  },

  async side(side, turn) {
    const { run, id } = this[side];
    this.traces[side] = null;
    this.problem = '';
    if (id) { const { trace, problem } = await getTrace(run, id); if (turn !== this.turn) return; this.traces[side] = trace || null; this.problem = problem || ''; }
    this.lists[side] = await this.list(run, this.name('a') || this.name(side));
  },

  async choose(side, run, id) {
    const turn = this.turn = {};
    this[side] = { run, id };
    if (!id) { const found = (await this.list(run, this.name('a') || this.name('b'))).find((t) => t.trace_id !== this[side === 'a' ? 'b' : 'a'].id); this[side].id = found ? found.trace_id : ''; }
    await this.side(side, turn);
    if (turn !== this.turn) return;
    this.remember(true);
    this.show();
  },

  picker(side) {
    const { run, id } = this[side], list = this.lists[side] || [], trace = this.traces[side], words = side === 'a' ? 'Left' : 'Right';
    const runs = el('select', { 'aria-label': `${words}: run`, onchange: (event) => this.choose(side, event.target.value, '') }, el('option', { value: '' }, 'this run'), ...this.runs.map((r) => el('option', { value: r.run }, `run of ${new Date(r.began * 1000).toLocaleDateString('en-CA')} ${clock(r.began, false)}`)));
    runs.value = run;
    const options = list.some((t) => t.trace_id === id) || !trace ? list : [{ trace_id: id, start: trace.spans[0].start, duration_s: extent(trace.spans).seconds, error: trace.spans.some((s) => s.error) }, ...list];
    const pick = el('select', { 'aria-label': `${words}: trace`, onchange: (event) => this.choose(side, run, event.target.value) }, ...(id ? [] : [el('option', { value: '' }, options.length ? 'choose a trace' : 'no such trace')]), ...options.map((t) => el('option', { value: t.trace_id }, `${clock(t.start)}  ${duration(t.duration_s)}${t.error ? '  error' : ''}`)));
    pick.value = id;
    return el('div', { className: `side ${side}` }, el('p', { className: 'tools' }, el('span', { className: 'key', 'aria-hidden': 'true' }), runs, pick),
      trace ? el('p', { className: 'note' }, `${duration(extent(trace.spans).seconds)} · ${plural(trace.spans.length, 'span')} · ${plural(trace.spans.filter((s) => s.error).length, 'error')} · `, el('a', { href: address('traces', { run, id }) }, 'open')) : el('p', { className: 'note' }, this.problem || 'No trace.'));
  },

  show() {
    const { a, b } = this.traces;
    put($('compare-name'), this.name('a') || this.name('b') || 'Two traces');
    $('compare-sides').replaceChildren(this.picker('a'), this.picker('b'));
    $('no-compare').hidden = Boolean(a && b);
    put($('no-compare'), a || b ? 'No other trace of this name is kept. Choose one of another run.' : 'Open a trace and follow “compare”, or choose two here.');
    if (!a || !b) { $('compare-rows').replaceChildren(); put($('compare-sum'), ''); return; }
    const rows = merge(a.spans, b.spans), ea = extent(a.spans), eb = extent(b.spans), whole = Math.max(ea.seconds, eb.seconds);
    const only = (side) => rows.filter((r) => !r[side === 'a' ? 'b' : 'a']).length;
    put($('compare-sum'), [eb.seconds >= ea.seconds ? `right took ${duration(eb.seconds - ea.seconds)} more` : `right took ${duration(ea.seconds - eb.seconds)} less`, only('a') ? `${plural(only('a'), 'span')} only left` : '', only('b') ? `${plural(only('b'), 'span')} only right` : ''].filter(Boolean).join(' · '));
    const most = Math.max(...rows.map((r) => r.a && r.b ? Math.abs(r.b.duration_s - r.a.duration_s) : 0), 1e-9);
    $('compare-rows').replaceChildren(...rows.map(({ depth, a: left, b: right }) => {
      const span = left || right, label = el('span', { className: 'label' }, el('b', {}, span.service), ' ', el('bdi', {}, span.name)), by = left && right ? right.duration_s - left.duration_s : null;
      label.style.paddingLeft = `${Math.min(depth, 8) * 12}px`;
      const words = left && right ? (Math.abs(by) < 1e-6 ? 'the same' : `${by > 0 ? '+' : '−'}${duration(Math.abs(by))}`) : left ? 'only left' : 'only right';
      return el('li', { className: left && right ? '' : left ? 'only-a' : 'only-b' }, label,
        el('span', { className: 'tracks', 'aria-hidden': 'true' }, bar('a', left, ea.begin, whole), bar('b', right, eb.begin, whole)),
        el('span', { className: `took${left && left.error ? ' bad' : ''}` }, el('span', { className: 'sr' }, 'left '), left ? duration(left.duration_s) : '–'),
        el('span', { className: `took${right && right.error ? ' bad' : ''}` }, el('span', { className: 'sr' }, 'right '), right ? duration(right.duration_s) : '–'),
        el('span', { className: `by${by !== null && by > most / 2 ? ' bad' : by !== null && by < -most / 2 ? ' good' : ''}` }, words),
        ...(!left || !right || left.error !== right.error || raised(left) || raised(right) || changed(left, right).length ? [this.more(left, right, ea.begin, eb.begin)] : []));
    }));
  },

  more(left, right, begin, other) {
    const why = [left && raised(left), right && raised(right)].filter(Boolean);
    const words = why.length ? [...new Set(why)].join(' | ') : !left || !right ? 'details' : left.error !== right.error ? `only ${left.error ? 'left' : 'right'} failed` : `differs in ${changed(left, right).join(', ')}`;
    return el('details', { className: [left, right].some((s) => s && raised(s)) ? 'raised' : '' }, el('summary', {}, words), el('div', { className: 'pair' }, ...[[left, begin], [right, other]].map(([s, at]) => el('div', {}, ...(s ? [facts(s, at)] : [])))));
  },
};

// Attributes that say something else, without those that differ in every request.
const NOISE = /(^|\.)(id|time|timestamp|port|pid)$|thread|peer|client\.|user_agent|url\.full|http\.(url|target)/;
function changed(left, right) {
  return [...new Set([...Object.keys(left.attributes), ...Object.keys(right.attributes)])].filter((k) => !NOISE.test(k) && String(left.attributes[k]) !== String(right.attributes[k])).slice(0, 4);
}

function bar(side, span, begin, whole) {
  const track = el('span', { className: `track ${side}${span && span.error ? ' err' : ''}` });
  if (span) { const part = el('i'); part.style.left = `${(span.start - begin) / whole * 100}%`; part.style.width = `${span.duration_s / whole * 100}%`; track.append(part); }
  return track;
}
