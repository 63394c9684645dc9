// The gateway's routes, and which of them a request would take.
import { page } from './state.js';
import { $, el, plural, put } from './tools.js';

export const routes = {
  async load() {
    const answer = page.alive ? await fetch('/api/routes', { cache: 'no-store' }).catch(() => null) : null;
    if (!answer || !answer.ok) return;
    const found = await answer.json();
    put($('route-count'), plural(found.length, 'route'));
    $('no-routes').hidden = found.length > 0;
    $('route-rows').replaceChildren(...found.map((r) => el('tr', {},
      el('th', { scope: 'row', className: 'mono' }, r.path), el('td', {}, r.exact ? 'exact' : 'prefix'), el('td', {}, r.methods.join(', ') || 'any'),
      el('td', {}, [...r.hosts, ...r.headers].join(', ') || 'any'),
      el('td', {}, ...(r.service ? [el('a', { href: `#/service?name=${encodeURIComponent(r.service)}` }, r.service)] : [r.link ? el('a', { href: r.link }, r.answers) : r.answers]), r.others.length ? ` and ${r.others.join(', ')}` : ''),
      el('td', {}, r.guards.map((g) => g.replace('_', ' ')).join(', ') || 'none'))));
  },

  async explain() {
    const target = $('route-target').value.trim() || '/';
    const query = new URLSearchParams({ method: $('route-method').value, target });
    const answer = await fetch(`/api/route?${query}`, { cache: 'no-store' }).catch(() => null);
    const found = answer ? await answer.json().catch(() => ({})) : {};
    if (!answer || !answer.ok) { put($('route-verdict'), found.message || 'The stack does not respond.'); $('route-steps').replaceChildren(); return; }
    put($('route-verdict'), found.status === null ? `${found.instance || found.service} gets ${found.upstream_path}` : `the gateway answers ${found.status}`);
    $('route-steps').replaceChildren(...found.steps.map((step) => el('li', {}, step)));
    history.replaceState(null, '', `#/routes?${new URLSearchParams({ target, ...($('route-method').value === 'GET' ? {} : { method: $('route-method').value }) })}`);
  },
};
$('route-form').addEventListener('submit', (event) => { event.preventDefault(); routes.explain(); });
