// The log: a window over up to a hundred thousand lines.
import { address, remember } from './address.js';
import { page } from './state.js';
import { $, clip, clock, el, onFrame, plural, put } from './tools.js';

const KEEP = 100000;
const LEVELS = { debug: 0, info: 1, warning: 2, error: 3, critical: 3 };
const [SEQ, TIME, SERVICE, LEVEL, TEXT, TRACE, INSTANCE, FIELDS] = [0, 1, 2, 3, 4, 5, 6, 7];

function oneLine(text) {
  const end = text.indexOf('\n');
  return end < 0 ? text : `${text.slice(0, end)}  (+${plural(text.split('\n').length - 1, 'line')})`;
}

export const logs = {
  all: [], shown: [], last: 0, follow: true, chosen: null, first: -1, count: -1,
  narrow: matchMedia('(max-width: 700px)'),
  get height() { return this.narrow.matches ? 40 : 20; },

  take({ missed, lines }) {
    if (missed) this.add([[this.last, Date.now() / 1000, 'msctl', 'warning', `(${missed} lines skipped: this page is too slow)`, null, '', null]]);
    this.add(lines);
    if (lines.length) this.last = lines[lines.length - 1][SEQ];
    if (this.wanted && page.view === 'logs') this.reach();
    this.draw();
  },

  add(lines) {
    const fits = this.filter();
    for (const line of lines) { this.all.push(line); if (fits(line)) this.shown.push(line); }
    if (this.all.length > KEEP) {
      this.all.splice(0, this.all.length - KEEP + KEEP / 10);
      const first = this.all[0];
      const gone = this.shown.findIndex((line) => line[SEQ] >= first[SEQ]);
      this.shown.splice(0, gone < 0 ? this.shown.length : gone);
      if (!this.follow) $('lines').scrollTop -= Math.max(0, gone) * this.height;
    }
  },

  // The last lines of one service, oldest first.
  last_of(name, count) {
    const found = [];
    for (let i = this.all.length - 1; i >= 0 && found.length < count; i--) if (this.all[i][SERVICE] === name) found.unshift(this.all[i]);
    return found;
  },

  // The lines of a trace, oldest first, up to so many.
  of_trace(id, most) {
    const found = [];
    for (let i = this.all.length - 1; i >= 0 && found.length < most; i--) if (this.all[i][TRACE] === id) found.unshift(this.all[i]);
    return found;
  },

  // The lines after one, for another tab.
  since(seq) {
    let at = this.all.length;
    while (at > 0 && this.all[at - 1][SEQ] > seq) at--;
    return this.all.slice(at);
  },

  // Takes what the address says; the line that it names opens once it is here.
  enter(query) {
    $('log-service').dataset.wanted = $('log-service').value = query.get('service') || '';
    $('log-level').value = query.get('level') || '0';
    $('log-text').value = query.get('text') || '';
    $('log-trace').value = query.get('trace') || '';
    this.wanted = Number(query.get('line')) || 0;
    if (this.chosen && this.chosen[SEQ] !== this.wanted) this.choose(null, false);
    this.refilter(false);
    if (this.follow && !this.wanted) this.setFollow(true);
    this.reach();
  },

  // Opens the line of the address.
  reach() {
    if (!this.wanted) return;
    const at = this.shown.findIndex((line) => line[SEQ] === this.wanted);
    if (at < 0) return;
    this.wanted = 0;
    if (this.chosen === this.shown[at]) return;
    this.setFollow(false);
    $('lines').scrollTop = Math.max(0, at * this.height - $('lines').clientHeight / 2);
    this.choose(this.shown[at], false);
  },

  remember(opened = false) {
    const level = $('log-level').value;
    remember('logs', { service: $('log-service').value || $('log-service').dataset.wanted || '', level: level === '0' ? '' : level, text: $('log-text').value, trace: $('log-trace').value.trim(), line: this.chosen ? this.chosen[SEQ] : '' }, opened);
  },

  newStack() {
    this.last = 0;
    if (this.all.length) this.add([[0, Date.now() / 1000, 'msctl', 'warning', '— the stack was restarted —', null, '', null]]);
    this.draw();
  },

  filter() {
    const service = $('log-service').value || $('log-service').dataset.wanted || '', level = Number($('log-level').value);
    const text = $('log-text').value.toLowerCase(), trace = $('log-trace').value.trim().toLowerCase();
    return (line) => (!service || line[SERVICE] === service) && (LEVELS[line[LEVEL]] ?? 1) >= level
      && (!trace || (line[TRACE] || '').startsWith(trace)) && (!text || line[TEXT].toLowerCase().includes(text));
  },

  refilter(told = true) {
    const fits = this.filter();
    this.shown = this.all.filter(fits);
    if (this.chosen && !fits(this.chosen)) this.choose(null, false);
    if (told) this.remember();
    this.count = -1;
    this.draw();
  },

  draw: onFrame(() => logs.render()),

  render() {
    if (page.view !== 'logs') return;
    const box = $('lines'), height = this.height, n = this.shown.length;
    if (n !== this.count) {
      this.count = n;
      $('lines-space').style.height = `${n * height}px`;
      put($('log-count'), n === this.all.length ? plural(n, 'line') : `${n.toLocaleString('en')} of ${plural(this.all.length, 'line')}`);
      $('no-lines').hidden = n > 0;
      put($('no-lines'), this.all.length ? 'No line matches these filters.' : 'No log lines yet.');
      if (this.follow) box.scrollTop = n * height;
    }
    const from = Math.max(0, Math.floor(box.scrollTop / height) - 8), to = Math.min(n, from + Math.ceil(box.clientHeight / height) + 16);
    const frame = $('lines-window');
    frame.style.transform = `translateY(${from * height}px)`;
    const needle = $('log-text').value;
    frame.replaceChildren(...this.shown.slice(from, to).map((line) => this.row(line, needle)));
  },

  row(line, needle) {
    const what = el('span', { className: 'what' }), text = clip(oneLine(line[TEXT]), 600), at = needle ? text.toLowerCase().indexOf(needle.toLowerCase()) : -1;
    if (at < 0) what.textContent = text;
    else what.append(text.slice(0, at), el('mark', {}, text.slice(at, at + needle.length)), text.slice(at + needle.length));
    const node = el('div', { className: `row ${line[LEVEL]}${line === this.chosen ? ' chosen' : ''}` },
      el('span', { className: 'when' }, clock(line[TIME])), el('span', { className: 'who' }, line[SERVICE]), what);
    node.addEventListener('click', () => this.choose(line));
    return node;
  },

  choose(line, told = true) {
    const changed = this.chosen !== line;
    this.chosen = line;
    if (told && changed && page.view === 'logs') this.remember(Boolean(line));
    const side = $('line');
    side.hidden = !line;
    if (line) {
      const facts = [['Time', `${new Date(line[TIME] * 1000).toLocaleDateString('en-CA')} ${clock(line[TIME])}`], ['Service', line[SERVICE]], ['Level', line[LEVEL]]];
      if (line[INSTANCE]) facts.push(['Instance', line[INSTANCE]]);
      if (line[TRACE]) facts.push(['Trace', el('a', { href: address('traces', { id: line[TRACE] }), className: 'id' }, line[TRACE])]);
      for (const [name, value] of Object.entries(line[FIELDS] || {})) facts.push([name, String(value)]);
      side.replaceChildren(
        el('button', { type: 'button', className: 'quiet close', 'aria-label': 'Close', onclick: () => { this.choose(null); $('lines').focus(); } }, '✕'),
        el('dl', {}, ...facts.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)])), el('pre', { tabIndex: 0 }, line[TEXT]));
      if (line[TRACE]) side.append(el('p', { className: 'note' }, el('a', { href: address('logs', { trace: line[TRACE] }) }, 'All lines of this trace')));
    }
    this.render();
  },

  move(by) {
    const n = this.shown.length;
    if (!n) return;
    let at = this.chosen ? this.shown.indexOf(this.chosen) : -1;
    if (at < 0) at = this.follow ? n : Math.floor($('lines').scrollTop / this.height);
    const to = Math.min(n - 1, Math.max(0, at + by));
    this.setFollow(false);
    const box = $('lines'), top = to * this.height;
    if (top < box.scrollTop) box.scrollTop = top;
    if (top + this.height > box.scrollTop + box.clientHeight) box.scrollTop = top + this.height - box.clientHeight;
    this.choose(this.shown[to], !this.chosen);
    this.remember();
  },

  escape() { if (this.chosen) { this.choose(null); $('lines').focus(); return true; } return false; },

  setFollow(on) {
    this.follow = on;
    $('log-follow').setAttribute('aria-pressed', String(on));
    if (on) { $('lines').scrollTop = this.shown.length * this.height; this.draw(); }
  },
};
$('lines').addEventListener('scroll', () => {
  const box = $('lines'), atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - logs.height * 1.5;
  if (atEnd !== logs.follow && (atEnd || box.matches(':hover, :focus-within, :focus'))) logs.setFollow(atEnd);
  logs.draw();
}, { passive: true });
$('lines').addEventListener('keydown', (event) => {
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20, Home: -Infinity, End: Infinity };
  if (event.key in steps) { event.preventDefault(); logs.move(steps[event.key]); }
});
for (const id of ['log-text', 'log-trace']) $(id).addEventListener('input', () => logs.refilter());
$('log-service').addEventListener('change', () => { $('log-service').dataset.wanted = ''; logs.refilter(); });
$('log-level').addEventListener('change', () => logs.refilter());
$('log-filter').addEventListener('submit', (event) => event.preventDefault());
$('log-follow').addEventListener('click', () => logs.setFollow(!logs.follow));
$('log-clear').addEventListener('click', () => { logs.all = []; logs.choose(null, false); logs.refilter(); });
logs.narrow.addEventListener('change', () => { logs.count = -1; logs.draw(); });
new ResizeObserver(() => { if (logs.follow) logs.count = -1; logs.draw(); }).observe($('lines'));
