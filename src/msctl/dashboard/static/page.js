// The stack's page. One stream of server-sent events brings the state and the log; everything else is
// requested when it is shown. No framework and no build step: a module a view, joined here.
import { announce } from './actions.js';
import { logs } from './logs.js';
import { overview } from './overview.js';
import { metrics } from './metrics.js';
import { queues } from './queues.js';
import { routes } from './routes.js';
import { service } from './service.js';
import { BAD, page } from './state.js';
import { start } from './stream.js';
import { $, el, put, svg, uptime } from './tools.js';
import { topology } from './topology.js';
import { traces } from './traces.js';

export function show(snapshot) {
  page.snapshot = snapshot;
  put($('project'), snapshot.project);
  const wrong = snapshot.services.filter((s) => BAD.has(s.state) || s.state === 'backoff').length;
  const title = `${wrong ? `(${wrong}) ` : ''}${snapshot.project} · msctl`;
  if (document.title !== title) document.title = title;
  put($('link'), `live · up ${uptime(snapshot.uptime_s)}`);
  for (const service of snapshot.services) {
    const before = page.states.get(service.name);
    if (before && before !== service.state) announce(`${service.name} is ${service.state}${service.reason ? ': ' + service.reason : ''}`);
    page.states.set(service.name, service.state);
  }
  choices();
  overview.show(snapshot);
  queues.show(snapshot);
  service.record(snapshot);
}

let chosenNames = '';
function choices() {
  const names = page.snapshot.services.map((s) => s.name);
  const joined = names.join('\n');
  if (joined === chosenNames) return;
  chosenNames = joined;
  for (const [id, extra] of [['log-service', ['broker', 'msctl']], ['trace-service', []]]) {
    const select = $(id), value = select.value || select.dataset.wanted || '';
    select.replaceChildren(el('option', { value: '' }, 'All'), ...[...names, ...extra].map((n) => el('option', { value: n }, n)));
    select.value = value;
  }
}


function route() {
  const [path, search = ''] = location.hash.replace(/^#\/?/, '').split('?'), query = new URLSearchParams(search);
  const view = ['logs', 'traces', 'metrics', 'queues', 'routes', 'service'].includes(path) ? path : 'overview';
  const changed = view !== page.view;
  page.view = view;
  for (const section of document.querySelectorAll('main > section')) section.hidden = section.id !== view;
  for (const link of document.querySelectorAll('nav a')) { if (link.dataset.view === view || (view === 'service' && link.dataset.view === 'overview')) link.setAttribute('aria-current', 'page'); else link.removeAttribute('aria-current'); }
  if (view === 'logs') {
    if (query.has('service')) { $('log-service').dataset.wanted = query.get('service'); $('log-service').value = query.get('service'); }
    if (query.has('trace')) { $('log-trace').value = query.get('trace'); $('log-service').value = ''; $('log-text').value = ''; $('log-level').value = '0'; }
    logs.refilter();
    if (logs.follow) logs.setFollow(true);
  }
  if (view === 'traces') traces.enter(query);
  if (view === 'metrics') metrics.enter(query);
  if (view === 'service') { service.forget(); service.open(query.get('name') || ''); }
  if (view === 'routes') {
    routes.load();
    if (query.has('target')) { $('route-method').value = query.get('method') || 'GET'; $('route-target').value = query.get('target'); routes.explain(); }
  }
  if (view !== 'queues') queues.stop();
  if (page.snapshot) show(page.snapshot);
  if (changed) scrollTo(0, 0);
}
addEventListener('hashchange', route);

const THEMES = ['auto', 'light', 'dark'];
const ICONS = { auto: 'M8 1.5a6.5 6.5 0 1 0 0 13zM8 1.5a6.5 6.5 0 0 1 0 13', light: 'M8 4.8a3.2 3.2 0 1 0 0 6.4 3.2 3.2 0 0 0 0-6.4M8 .8v2M8 13.2v2M.8 8h2M13.2 8h2M2.9 2.9l1.4 1.4M11.7 11.7l1.4 1.4M2.9 13.1l1.4-1.4M11.7 4.3l1.4-1.4', dark: 'M13.5 9.8A6 6 0 0 1 6.2 2.5a6 6 0 1 0 7.3 7.3z' };
function paint(theme) {
  document.documentElement.dataset.theme = theme;
  $('theme').replaceChildren(svg('svg', { viewBox: '0 0 16 16', 'aria-hidden': 'true' }, svg('path', { d: ICONS[theme], ...(theme === 'auto' ? { fill: 'none' } : {}) })));
  $('theme').setAttribute('aria-label', `Colour scheme: ${theme === 'auto' ? 'system' : theme}`);
  $('theme').title = $('theme').getAttribute('aria-label');
}
let theme = 'auto';
try { theme = THEMES.includes(localStorage.getItem('msctl-theme')) ? localStorage.getItem('msctl-theme') : 'auto'; } catch { /* storage may be disabled */ }
paint(theme);
$('theme').addEventListener('click', () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  paint(theme);
  try { localStorage.setItem('msctl-theme', theme); } catch { /* the choice then lasts until the page is closed */ }
});

addEventListener('keydown', (event) => {
  if (event.key !== '/' || event.ctrlKey || event.metaKey || /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) return;
  const field = { overview: 'find', logs: 'log-text', traces: 'trace-text', queues: 'publish-queue', routes: 'route-target', metrics: 'metric-find', service: 'service-toggle' }[page.view];
  event.preventDefault();
  $(field).focus();
});

route();
start({
  state: show,
  lines: (batch) => logs.take(batch),
  last: () => logs.last,
  newStack: () => logs.newStack(),
  connected(session) {
    document.querySelector('nav [data-view=traces]').hidden = !session.traces;
    $('queue-work').hidden = !session.queues;
  },
  disconnected: () => overview.acts(),
});

// For the console.
window.msctl = { page, overview, topology, logs, traces, metrics, queues, routes, service };
