// Small tools: elements, and numbers as people read them.
export const $ = (id) => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';

/** An address of a service: a link where a browser can follow it, not for redis:// and the like. */
export function addressLink(a) {
  if (/^(?!https?:)[a-z][a-z0-9+.-]*:\/\//.test(a)) return a;
  return el('a', { href: /^https?:/.test(a) ? a : `http://${a}/`, rel: 'noreferrer' }, a);
}

export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name in node && !name.includes('-') && name !== 'list') node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function svg(tag, props = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Only changed nodes are touched, so that focus, selection and screen readers keep their place.
export function put(node, text) { if (node.textContent !== text) node.textContent = text; }
export function mark(node, name) { if (node.className !== name) node.className = name; }

export const plural = (n, one, many = one + 's') => `${n.toLocaleString('en')} ${n === 1 ? one : many}`;
export const rate = (n) => n === null || n === undefined ? '–' : n === 0 ? '0' : n < 9.95 ? n.toFixed(1) : Math.round(n).toLocaleString('en');
export const clip = (text, n) => text.length > n ? text.slice(0, n - 1) + '…' : text;

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 0.1) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(0)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

export function uptime(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  const s = Math.floor(seconds), two = (n) => String(n).padStart(2, '0');
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m${two(s % 60)}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h${two(Math.floor(s % 3600 / 60))}m`;
  return `${Math.floor(s / 86400)}d${two(Math.floor(s % 86400 / 3600))}h`;
}

export function bytes(n) {
  if (n === null || n === undefined) return '–';
  for (const unit of ['B', 'KiB', 'MiB']) { if (n < 1024) return `${unit === 'B' ? n : n.toFixed(1)} ${unit}`; n /= 1024; }
  return `${n.toFixed(1)} GiB`;
}

export function clock(epoch, exact = true) {
  const d = new Date(epoch * 1000), two = (n) => String(n).padStart(2, '0');
  const time = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  return exact ? `${time}.${String(d.getMilliseconds()).padStart(3, '0')}` : time;
}

export const onFrame = (work) => { let asked = false; return () => { if (!asked) { asked = true; requestAnimationFrame(() => { asked = false; work(); }); } }; };

export function sparkline(values, label) {
  const w = 96, h = 22, top = Math.max(...values, 1), step = w / Math.max(1, values.length - 1);
  const points = values.map((v, i) => `${(i * step).toFixed(1)},${(h - 1 - v / top * (h - 3)).toFixed(1)}`).join('L');
  return svg('svg', { class: 'spark', viewBox: `0 0 ${w} ${h}`, role: 'img', 'aria-label': label, preserveAspectRatio: 'none' },
    svg('path', { class: 'area', d: `M0,${h}L${points}L${w},${h}Z` }), svg('path', { d: `M${points}` }));
}

// A line over time that says its value where the pointer or the arrow keys are.
export function chart(title, points, show, tone = '') {
  const w = 360, h = 96, known = points.filter(([, v]) => v !== null && v !== undefined), top = Math.max(...known.map(([, v]) => v), 1e-9);
  const began = points.length ? points[0][0] : 0, span = Math.max(1, (points.length ? points[points.length - 1][0] : 1) - began);
  const x = (at) => (at - began) / span * w, y = (v) => h - 2 - v / top * (h - 8);
  const last = known.length ? show(known[known.length - 1][1]) : '–';
  const line = known.map(([at, v], i) => `${i ? 'L' : 'M'}${x(at).toFixed(1)},${y(v).toFixed(1)}`).join('');
  const cursor = svg('line', { class: 'cursor', y1: 0, y2: h, x1: -9, x2: -9 });
  const value = el('output', {}, last);
  const picture = svg('svg', { viewBox: `0 0 ${w} ${h}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': `${title}: ${last} now, at most ${known.length ? show(top) : '–'}` },
    svg('path', { class: 'base', d: `M0,${h - 1}H${w}` }), svg('path', { class: 'line', d: line }), cursor);
  const at = (share) => {
    const wanted = began + share * span;
    const [when, v] = known.reduce((best, one) => Math.abs(one[0] - wanted) < Math.abs(best[0] - wanted) ? one : best, known[0]);
    cursor.setAttribute('x1', x(when)); cursor.setAttribute('x2', x(when));
    put(value, `${show(v)} at ${clock(when / 1000, false)}`);
  };
  picture.addEventListener('pointermove', (event) => { const box = picture.getBoundingClientRect(); if (known.length && box.width) at((event.clientX - box.left) / box.width); });
  picture.addEventListener('pointerleave', () => { put(value, last); cursor.setAttribute('x1', -9); cursor.setAttribute('x2', -9); });
  return el('figure', { className: `chart ${tone}` }, el('figcaption', {}, title, ' ', value), picture);
}
