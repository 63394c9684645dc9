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
  families: new Map(), series: new Map(), times: new Float64Array(KEEP), count: 0, name: '', timer: 0,

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
      this.record(parse(await answer.text()));
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

  // A ring of numbers for each series: what came between two answers is worked out at once, and the answers are dropped.
  record(families) {
    const at = this.count++ % KEEP, before = this.families, now = Date.now();
    const seconds = this.count > 1 ? (now - this.times[(at + KEEP - 1) % KEEP]) / 1000 : 0;
    this.times[at] = now;
    this.families = families;
    const known = new Set();
    for (const family of families.values()) {
      for (const [key, one] of family.samples) {
        const id = `${family.name}\n${key}`, last = before.get(family.name)?.samples.get(key);
        known.add(id);
        if (!this.series.has(id)) this.series.set(id, new Float32Array(KEEP).fill(NaN));
        this.series.get(id)[at] = family.type === 'counter' ? last ? Math.max(0, one.value - last.value) / seconds : NaN : family.type === 'histogram' ? last ? p95(last.buckets, one.buckets) ?? NaN : NaN : one.value;
      }
    }
    for (const id of this.series.keys()) if (!known.has(id)) this.series.delete(id);
  },

  points(family, key) {
    const past = this.series.get(`${family.name}\n${key}`), found = [];
    for (let i = Math.max(0, this.count - KEEP); past && i < this.count; i++) {
      const value = past[i % KEEP];
      found.push([this.times[i % KEEP], Number.isNaN(value) ? null : value]);
    }
    return found;
  },
};
$('metric-find').addEventListener('input', () => { metrics.list(); remember('metrics', { name: metrics.name, find: $('metric-find').value.trim() }); });
$('metric-form').addEventListener('submit', (event) => event.preventDefault());
