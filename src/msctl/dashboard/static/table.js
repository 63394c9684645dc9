// A table of rows that change: sorted by its heads, drawn again only where a row differs, the focus kept.
import { sortable, sorted } from './sorting.js';
import { el } from './tools.js';

// columns: [{ id, title, num, lesser, value(row), cell(row) }]; `cell` returns a text or nodes, `value` is for sorting.
// options: label, key(row) → text, order, onorder(order), chosen(row) → whether it is open, stamp(row) → what else its
// cells depend on.
export class Table {
  constructor(host, { label, columns, key, order = '', onorder = () => {}, chosen = () => false, stamp = () => '' }) {
    Object.assign(this, { columns, key, order, chosen, stamp, rows: new Map(), all: [] });
    this.values = Object.fromEntries(columns.filter((c) => c.value).map((c) => [c.id, c.value]));
    this.body = el('tbody');
    const head = el('tr', {}, ...columns.map((c) => el('th', { scope: 'col', className: [c.num && 'num', c.lesser && 'lesser'].filter(Boolean).join(' '), 'data-sort': c.value ? c.id : null }, c.title || el('span', { className: 'sr' }, c.hidden || 'Actions'))));
    this.mark = sortable(head, () => this.order, (to) => { this.order = to; onorder(to); this.show(this.all); });
    host.replaceChildren(el('table', { className: 'plain', 'aria-label': label }, el('thead', {}, head), this.body));
  }

  show(all) {
    this.all = all;
    const wanted = sorted(all, this.order, this.values), kept = new Set();
    let before = null;
    for (const row of wanted) {
      const key = this.key(row), stamp = JSON.stringify(row) + this.chosen(row) + this.stamp(row);
      kept.add(key);
      let one = this.rows.get(key);
      if (!one) this.rows.set(key, one = { node: el('tr', { 'data-key': key }), stamp: '' });
      if (one.stamp !== stamp) {
        one.stamp = stamp;
        const focused = one.node.contains(document.activeElement) ? document.activeElement.dataset.act : null;
        one.node.className = this.chosen(row) ? 'chosen' : '';
        one.node.replaceChildren(...this.columns.map((c, i) => { const found = c.cell ? c.cell(row) : String(c.value(row) ?? '–'); return el(i ? 'td' : 'th', { scope: i ? null : 'row', className: [c.num && 'num', c.lesser && 'lesser', c.class].filter(Boolean).join(' ') }, ...(Array.isArray(found) ? found : [found])); }));
        if (focused) one.node.querySelector(`[data-act="${CSS.escape(focused)}"]`)?.focus();
      }
      if (one.node.parentNode !== this.body || one.node.previousElementSibling !== before) this.body.insertBefore(one.node, before ? before.nextSibling : this.body.firstChild);
      before = one.node;
    }
    for (const [key, one] of this.rows) if (!kept.has(key)) { one.node.remove(); this.rows.delete(key); }
  }

  sort(order) { this.order = order; this.mark(); this.show(this.all); }

  again() { for (const one of this.rows.values()) one.stamp = ''; this.show(this.all); }
}

export const count = (n) => n === null || n === undefined ? '–' : n.toLocaleString('en');
export const yes = (b) => b ? 'yes' : 'no';
