// The recorded runs, and two of them route by route.
import { address, remember } from './address.js';
import { page } from './state.js';
import { Table, count } from './table.js';
import { $, clock, duration, el, put, uptime } from './tools.js';

const when = (epoch) => `${new Date(epoch * 1000).toLocaleDateString('en-CA')} ${clock(epoch, false)}`;
const change = (before, after, show, worse) => {
  if (!before || !after) return [before ? show(before) : after ? show(after) : '–'];
  const by = before > 0 ? after / before - 1 : after > 0 ? Infinity : 0;
  return [`${show(before)} → ${show(after)}`, ...(Math.abs(by) >= 0.1 && worse ? [' ', el('span', { className: by > 0 ? 'bad' : 'good' }, Number.isFinite(by) ? `${by > 0 ? '+' : '−'}${Math.abs(by * 100).toFixed(0)} %` : 'new')] : [])];
};
const pair = (title, field, show, worse) => ({ id: field, title, num: true, value: (r) => r.after ? r.after[field] : null, cell: (r) => change(r.before && r.before[field], r.after && r.after[field], show, worse) });

export const runs = {
  options: { before: '', after: '', sort: '' },

  async enter(query) {
    for (const name of Object.keys(this.options)) this.options[name] = query.get(name) || '';
    this.make();
    const turn = this.turn = {};
    const found = await this.get('/api/runs');
    if (turn !== this.turn || !found) return;
    this.list.show(found);
    $('no-runs').hidden = found.length > 0;
    if (!this.options.after && found.length > 1) Object.assign(this.options, { after: found[0].run, before: found[1].run });
    this.list.again();
    await this.compare();
  },

  async get(path) {
    const answer = page.can.runs ? await fetch(path, { cache: 'no-store' }).catch(() => null) : null;
    const found = answer && await answer.json().catch(() => null);
    $('runs-problem').hidden = Boolean(answer && answer.ok);
    if (!answer || !answer.ok) put($('runs-problem'), (found && [found.message, found.hint].filter(Boolean).join(' – ')) || 'No runs are recorded here.');
    return answer && answer.ok ? found : null;
  },

  make() {
    if (this.list) return;
    const chosen = (r) => [this.options.before, this.options.after].includes(r.run);
    const pick = (side) => (r) => el('input', { type: 'radio', name: `run-${side}`, checked: this.options[side] === r.run, 'aria-label': `${side === 'before' ? 'Compare' : 'with'} the run of ${when(r.began)}`, 'data-act': side, onchange: () => { this.options[side] = r.run; remember('runs', this.options, true); this.list.again(); this.compare(); } });
    this.list = new Table($('runs-table'), {
      label: 'Runs', key: (r) => r.run, chosen, stamp: (r) => this.options.before === r.run,
      columns: [
        { id: 'began', title: 'Began', value: (r) => r.began, cell: (r) => r.run === page.can.run ? `${when(r.began)} (this run)` : when(r.began) },
        { id: 'took', title: 'Took', num: true, value: (r) => r.ended && r.ended - r.began, cell: (r) => r.ended ? uptime(r.ended - r.began) : r.run === page.can.run ? 'runs' : 'was killed' },
        { id: 'requests', title: 'Requests', num: true, value: (r) => r.requests, cell: (r) => count(r.requests) },
        { id: 'errors', title: 'Errors', num: true, value: (r) => r.errors, cell: (r) => r.errors ? el('span', { className: 'bad' }, count(r.errors)) : '0' },
        { id: 'traces', title: 'Traces', num: true, value: (r) => r.traces, cell: (r) => r.traces ? el('a', { href: address('traces', { run: r.run === page.can.run ? '' : r.run }) }, count(r.traces)) : '0' },
        { id: 'before', title: 'Before', cell: pick('before') },
        { id: 'after', title: 'After', cell: pick('after') },
      ],
    });
    this.routes = new Table($('runs-routes'), {
      label: 'Routes of both runs', order: this.options.sort, onorder: (sort) => { this.options.sort = sort; remember('runs', this.options); },
      key: (r) => { const one = r.after || r.before; return `${one.service} ${one.method} ${one.route}`; },
      columns: [
        { id: 'route', title: 'Route', value: (r) => (r.after || r.before).route, cell: (r) => { const one = r.after || r.before; return [`${one.method} ${one.route || 'no route'} `, el('span', { className: 'note' }, one.service), ...(r.before && r.after ? [] : [' ', el('span', { className: 'note' }, r.after ? 'new' : 'gone')])]; }, class: 'wrap' },
        pair('Requests', 'requests', count, false), pair('Errors', 'errors', count, true), pair('p50', 'p50_s', duration, true), pair('p95', 'p95_s', duration, true), pair('p99', 'p99_s', duration, true),
      ],
    });
  },

  async compare() {
    const { before, after } = this.options, turn = this.turn = {};
    const found = before && after && before !== after ? await this.get(`/api/runs/compare?${new URLSearchParams({ before, after })}`) : null;
    if (turn !== this.turn) return;
    $('runs-comparison').hidden = !found;
    if (!found) return;
    put($('runs-compared'), `${when(found.before.began)} → ${when(found.after.began)}`);
    this.routes.show(found.routes);
    const run = after === page.can.run ? '' : after;
    for (const [id, names, errors] of [['runs-new', found.new_traces, false], ['runs-failures', found.new_failures, true]]) {
      $(id).parentNode.hidden = !names.length;
      $(id).replaceChildren(...names.slice(0, 50).map((name) => el('li', {}, el('a', { href: address('traces', { run, text: name, errors }) }, name))));
    }
  },
};
