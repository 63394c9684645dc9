// The stack's page. One stream of server-sent events brings the state and the log; everything else is
// requested when it is shown. No framework and no build step: a module a view, joined here.
import { announce, closeError } from './actions.js';
import './broker_forms.js';
import { parse } from './address.js';
import { compare } from './compare.js';
import { faults } from './faults.js';
import { logs } from './logs.js';
import { messaging } from './messaging.js';
import { metrics } from './metrics.js';
import { overview } from './overview.js';
import { routes } from './routes.js';
import { runs } from './runs.js';
import { service } from './service.js';
import { BAD, page } from './state.js';
import { start } from './stream.js';
import { $, el, put, svg, uptime } from './tools.js';
import { topology } from './topology.js';
import { traces } from './traces.js';

// A view has some of: enter(query), with what its address says, also when that changes; leave(); show(snapshot) with
// each state; load() when the stack is there again; escape(), which closes what is open and says whether anything was.
const views = { overview, topology, logs, traces, compare, messaging, metrics, routes, runs, service };
const PARENTS = { service: 'overview', compare: 'traces' };
const SEARCHES = { overview: 'find', topology: 'topology-find', logs: 'log-text', traces: 'trace-text', messaging: 'messaging-find', routes: 'route-target', metrics: 'metric-find', service: 'service-toggle' };

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
  faults.show(snapshot);
  service.record(snapshot);
  if (page.view !== 'service') views[page.view].show?.(snapshot);
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
  const { view: path, query } = parse(location.hash);
  const view = Object.hasOwn(views, path) ? path : path === 'queues' ? 'messaging' : 'overview';
  const changed = view !== page.view;
  if (changed) views[page.view]?.leave?.();
  page.view = view;
  for (const section of document.querySelectorAll('main > section')) section.hidden = section.id !== view;
  for (const link of document.querySelectorAll('nav a')) { if (link.dataset.view === (PARENTS[view] || view)) link.setAttribute('aria-current', 'page'); else link.removeAttribute('aria-current'); }
  document.querySelector('nav a[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  views[view].enter?.(query);
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
  const field = document.activeElement, writes = /^(INPUT|TEXTAREA|SELECT)$/.test(field.tagName);
  if (event.key === 'Escape' && !$('dialog').open && !event.defaultPrevented) {
    if (writes && field.value && field.type === 'search') return;  // the browser empties it
    if (closeError() || views[page.view].escape?.()) event.preventDefault();
  }
  if (event.key !== '/' || event.ctrlKey || event.metaKey || writes || $('dialog').open) return;
  event.preventDefault();
  $(SEARCHES[page.view])?.focus();
});

route();
start({
  state: show,
  lines: (batch) => logs.take(batch),
  last: () => logs.last,
  since: (seq) => logs.since(seq),
  // What belonged to the stack before is not shown as this one's.
  newStack() {
    logs.newStack();
    Object.assign(topology, { calls: [], traces: 0, failed: 0 });
    traces.found = [];
    if (page.view === 'traces') traces.show();
  },
  connected(session) {
    for (const [view, there] of [['traces', session.traces], ['messaging', session.queues], ['runs', session.runs]]) document.querySelector(`nav [data-view=${view}]`).hidden = !there;
  },
  live() { topology.load(); if (['compare', 'runs'].includes(page.view)) route(); else views[page.view].load?.(); if (page.view === 'traces') traces.runs(); },
  disconnected: () => overview.acts(),
});

// For the console.
window.msctl = { page, ...views };
