// Every metric of the stack, drawn from the moment the view is opened.
import { address, remember } from './address.js';
import { page } from './state.js';
import { $, chart, duration, el, plural, put, rate } from './tools.js';

const EVERY_MS = 2000, KEEP = 450, MOST = 12;
const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/, LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)",?/g;

// The families of a metrics page in Prometheus' text format: name, type, help, and samples by their labels.
export function parse(text) {
  const families = new Map();
  let family = null;
  for (const line of text.split('\n')) {
    if (line.startsWith('# HELP ')) {
      const name = line.split(' ', 3)[2];
      families.set(name, family = { name, help: line.slice(8 + name.length), type: 'untyped', samples: new Map() });
    } else if (line.startsWith('# TYPE ')) {
      if (family) family.type = line.split(' ')[3];
    } else if (line && family) {
      const found = SAMPLE.exec(line);
      if (!found) continue;
      const labels = Object.fromEntries([...(found[2] || '').matchAll(LABEL)].map(([, key, value]) => [key, value]));
      const { le } = labels;
      delete labels.le;
      const key = Object.entries(labels).map(([k, v]) => `${k}="${v}"`).join(', ');
      const one = family.samples.get(key) || { labels, buckets: [], value: 0, count: 0, sum: 0 };
      const value = Number(found[3].replace('+Inf', 'Infinity'));
      if (le !== undefined) one.buckets.push([le === '+Inf' ? Infinity : Number(le), value]);
      else if (found[1].endsWith('_count') && family.type === 'histogram') one.count = value;
      else if (found[1].endsWith('_sum') && family.type === 'histogram') one.sum = value;
      else one.value = value;
      family.samples.set(key, one);
    }
  }
  return families;
}

// The 95th percentile of what was observed between two states of a histogram's buckets; null for nothing.
export function p95(before, after) {
  const counts = after.map(([bound, n], i) => [bound, n - (before[i] ? before[i][1] : 0)]);
  const total = counts.length ? counts[counts.length - 1][1] : 0;
  if (total <= 0) return null;
  const rank = 0.95 * total;
  let lower = 0, below = 0;
  for (const [bound, n] of counts) {
    if (n >= rank) return bound === Infinity ? lower : lower + (bound - lower) * (n > below ? (rank - below) / (n - below) : 0);
    [lower, below] = [bound, n];
  }
  return lower;
}

export const metrics = {
  families: new Map(), past: [], name: '', timer: 0,

  enter(query) {
    if (query.has('name')) this.name = query.get('name');
    $('metric-find').value = query.get('find') || '';
    this.load();
  },

  async load() {
    clearTimeout(this.timer);
    if (page.view !== 'metrics' || document.hidden) return;
    const answer = page.alive ? await fetch('/api/metrics', { cache: 'no-store' }).catch(() => null) : null;
    if (answer && answer.ok) {
      this.families = parse(await answer.text());
      this.past.push({ at: Date.now(), families: this.families });
      if (this.past.length > KEEP) this.past.shift();
      this.list();
      this.draw();
    }
    this.timer = setTimeout(() => this.load(), EVERY_MS);
  },

  list() {
    const needle = $('metric-find').value.trim().toLowerCase();
    const names = [...this.families.keys()].filter((name) => !needle || name.includes(needle) || this.families.get(name).help.toLowerCase().includes(needle)).sort();
    if (!this.families.has(this.name) && names.length) this.name = names.find((n) => n.startsWith('http_server_request')) || names[0];
    put($('metric-count'), plural(names.length, 'metric'));
    const key = names.join() + this.name;
    if (key === this.listed) return;
    this.listed = key;
    $('metric-names').replaceChildren(...names.map((name) => el('li', {}, el('a', { href: address('metrics', { name, find: needle }), 'aria-current': name === this.name ? 'true' : null }, name))));
  },

  draw() {
    const family = this.families.get(this.name);
    put($('metric-name'), family ? family.name : 'No metric');
    put($('metric-help'), family ? `${family.help} (${family.type}${family.type === 'counter' ? ', per second' : family.type === 'histogram' ? ', 95th percentile of what came between two points' : ''})` : '');
    if (!family) { $('metric-charts').replaceChildren(); return; }
    const series = [...family.samples.entries()].map(([key, now]) => [key, now, this.points(family, key)]);
    const weight = ([, now]) => family.type === 'histogram' ? now.count : Math.abs(now.value);
    series.sort((a, b) => weight(b) - weight(a));
    const seconds = family.name.endsWith('_seconds'), show = seconds && family.type !== 'counter' ? duration : family.type === 'counter' ? rate : (n) => n === null ? '–' : n.toLocaleString('en', { maximumFractionDigits: 3 });
    $('metric-charts').replaceChildren(...series.slice(0, MOST).map(([key, , points]) => chart(key || 'all', points, show)));
    put($('metric-more'), series.length > MOST ? `${plural(series.length - MOST, 'more series', 'more series')} with smaller values` : '');
  },

  points(family, key) {
    const found = [];
    for (let i = 0; i < this.past.length; i++) {
      const at = this.past[i].at, one = this.past[i].families.get(family.name)?.samples.get(key);
      const before = i ? this.past[i - 1].families.get(family.name)?.samples.get(key) : null;
      if (!one) continue;
      if (family.type === 'counter') { if (before) found.push([at, Math.max(0, one.value - before.value) / ((at - this.past[i - 1].at) / 1000)]); }
      else if (family.type === 'histogram') { if (before) found.push([at, p95(before.buckets, one.buckets)]); }
      else found.push([at, one.value]);
    }
    return found;
  },
};
$('metric-find').addEventListener('input', () => { metrics.list(); remember('metrics', { name: metrics.name, find: $('metric-find').value.trim() }); });
$('metric-form').addEventListener('submit', (event) => event.preventDefault());
