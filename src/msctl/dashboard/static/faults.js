// The active faults, in a band above every view, each with a button that ends it.
import { act, announce, showError } from './actions.js';
import { $, el, plural, put } from './tools.js';

export const faults = {
  rows: new Map(),

  show(snapshot) {
    const band = $('faults'), active = snapshot.faults || [], ids = new Set(active.map((one) => one.id));
    for (const [id, row] of this.rows) {
      if (ids.has(id)) continue;
      row.node.remove();
      this.rows.delete(id);
      announce(`fault ${id} has ended`);
    }
    for (const one of active) {
      const row = this.rows.get(one.id) || this.make(one, band);
      const left = Math.ceil(one.remaining_s);
      put(row.numbers, `${plural(one.hits, 'hit')}, ends in ${left < 100 ? `${left} s` : `${Math.ceil(left / 60)} min`}`);
    }
    band.hidden = !active.length;
  },

  make(one, band) {
    const what = `${one.kind} of ${one.target}${one.effect ? ` (${one.effect})` : ''}`;
    const numbers = el('span', { className: 'note' });
    const node = el('li', {}, el('strong', {}, one.id), ` ${what} `, numbers, ' ',
      el('a', { href: `#/traces?text=${encodeURIComponent(`msctl.fault=${one.id}`)}` }, 'Traces'), ' ',
      el('button', { type: 'button', 'aria-label': `End fault ${one.id}`, onclick: () => this.end(one.id) }, 'End'));
    const row = { node, numbers };
    this.rows.set(one.id, row);
    band.querySelector('ul').append(node);
    announce(`fault ${one.id} has begun: ${what}`);
    return row;
  },

  async end(id) {
    const problem = await act('/api/faults/clear', { ids: [id] });
    if (problem) showError(problem);
  },
};
