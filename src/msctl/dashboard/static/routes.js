// The gateway's routes, and which of them a request would take.
import { address, remember } from './address.js';
import { page } from './state.js';
import { Table } from './table.js';
import { $, el, plural, put } from './tools.js';

const guards = (r) => r.guards.map((g) => g.replace('_', ' ')).join(', ') || 'none';

export const routes = {
  order: '',

  enter(query) {
    this.order = query.get('sort') || '';
    this.table = this.table || new Table($('route-table'), {
      label: 'Routes in the order of matching', key: (r) => r.at, order: this.order, onorder: (to) => { this.order = to; this.remember(); },
      columns: [
        { id: 'at', title: '#', num: true, value: (r) => r.at },
        { id: 'path', title: 'Path', value: (r) => r.path, class: 'mono wrap' },
        { id: 'match', title: 'Match', value: (r) => r.exact ? 'exact' : 'prefix' },
        { id: 'methods', title: 'Methods', value: (r) => r.methods.join(', ') || 'any' },
        { id: 'hosts', title: 'Hosts and fields', value: (r) => [...r.hosts, ...r.headers].join(', ') || 'any', class: 'wrap' },
        { id: 'to', title: 'To', value: (r) => r.service || r.answers, class: 'wrap', cell: (r) => [r.service ? el('a', { href: address('service', { name: r.service }) }, r.service) : r.link ? el('a', { href: r.link }, r.answers) : r.answers, r.others.length ? ` and ${r.others.join(', ')}` : ''] },
        { id: 'guards', title: 'Guards', value: guards },
      ],
    });
    this.table.sort(this.order);
    this.load();
    this.target = query.get('target') || '';
    $('route-method').value = query.get('method') || 'GET';
    $('route-target').value = this.target;
    if (this.target) this.explain(); else { put($('route-verdict'), ''); $('route-steps').replaceChildren(); }
  },

  remember(opened = false) { remember('routes', { target: this.target, method: $('route-method').value === 'GET' ? '' : $('route-method').value, sort: this.order }, opened); },

  async load() {
    const answer = page.alive ? await fetch('/api/routes', { cache: 'no-store' }).catch(() => null) : null;
    if (!answer || !answer.ok) return;
    const found = await answer.json();
    put($('route-count'), plural(found.length, 'route'));
    $('no-routes').hidden = found.length > 0;
    this.table.show(found.map((r, i) => ({ ...r, at: i + 1 })));
  },

  async explain() {
    const target = this.target = $('route-target').value.trim() || '/';
    const query = new URLSearchParams({ method: $('route-method').value, target });
    const answer = await fetch(`/api/route?${query}`, { cache: 'no-store' }).catch(() => null);
    const found = answer ? await answer.json().catch(() => ({})) : {};
    if (!answer || !answer.ok) { put($('route-verdict'), found.message || 'The stack does not respond.'); $('route-steps').replaceChildren(); return; }
    put($('route-verdict'), found.status === null ? `${found.instance || found.service} gets ${found.upstream_path}` : `the gateway answers ${found.status}`);
    $('route-steps').replaceChildren(...found.steps.map((step) => el('li', {}, step)));
    this.remember();
  },
};
$('route-form').addEventListener('submit', (event) => { event.preventDefault(); routes.explain(); });
