// Draws a graph: boxes that are links, and lines with arrows between them.
import { curve, layout } from './layout.js';
import { clip, el, svg } from './tools.js';

const MANY = 20;
let pictures = 0;

// nodes: [{ id, title, sub, right, tone, shape, href, label, hit, current }]; edges: [{ from, to, tone, dashed, weight, label, words }].
// Tones of nodes: good, warn, bad, off; of edges: on, err, idle. `words` describes the whole for those who do not see it.
// A picture that is too wide is drawn with small boxes, then up to a fifth smaller; beyond that it scrolls.
export function draw({ nodes, edges, words, width, small = false }) {
  const mark = `p${++pictures}`;
  let w, h, found;
  for (const tight of small ? [true] : [false, true]) {
    [small, w, h] = tight ? [true, 158, 30] : [false, 184, 46];
    found = layout(nodes.map((n) => ({ id: n.id, w, h })), edges.map((e) => ({ ...e, weak: e.dashed && nodes.length > MANY })), { gapX: tight ? 64 : 96, gapY: tight ? 8 : 14, width: width - 8 });
    if (found.width + 8 <= width) break;
  }
  const { spots, paths, width: right, height: bottom } = found;
  const tip = (tone, color) => svg('marker', { id: `${mark}-${tone}`, viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, markerUnits: 'userSpaceOnUse', orient: 'auto' }, svg('path', { d: 'M0,0.6L7.4,4L0,7.4z', fill: color }));
  const lines = [], labels = [];
  edges.forEach((edge, i) => {
    const found = paths[i];
    if (!found.length) return;
    const line = svg('path', { class: `e ${edge.tone}${edge.dashed ? ' dep' : ''}`, d: curve(found), 'stroke-width': edge.weight || 1.3, 'marker-end': `url(#${mark}-${edge.tone})` });
    if (edge.words) line.append(titled(edge.words));
    if (edge.dashed) lines.unshift(line); else lines.push(line);
    if (edge.label) {
      const { x, y } = on(found[found.length - 2], found[found.length - 1], 0.6);
      labels.push(text(`lbl ${edge.tone}`, x, y - 6, edge.label, 'middle'));
    }
  });
  const boxes = nodes.map((node) => {
    const lamp = !['queue', 'exchange'].includes(node.shape), inset = lamp ? 26 : node.shape === 'queue' ? 20 : 12;
    const { x, y } = spots.get(node.id), round = node.shape === 'queue' ? h / 2 : 7, room = w - inset - 10 - (node.right ? node.right.length * 6.8 + 8 : 0);
    const parts = [svg('rect', { class: 'box', x, y, width: w, height: h, rx: round }, titled(node.label || node.title)), ...(lamp ? [svg('circle', { class: 'lamp', cx: x + 15, cy: y + h / 2 - (node.sub && !small ? 8 : 0), r: 4 })] : [])];
    if (node.shape === 'group') parts.unshift(svg('rect', { class: 'box under', x: x + 4, y: y + 4, width: w, height: h, rx: round }));
    parts.push(text('t', x + inset, small || !node.sub ? y + h / 2 + 4.5 : y + h / 2 - 3.5, clip(node.title, Math.max(4, Math.floor(room / 7.4)))));
    if (node.sub && !small) parts.push(text('s', x + inset, y + h / 2 + 13, clip(node.sub, Math.floor((w - inset - 10) / 6.4))));
    if (node.right) parts.push(text('s', x + w - (node.shape === 'queue' ? 16 : 10), small || !node.sub ? y + h / 2 + 4 : y + h / 2 - 3.5, node.right, 'end'));
    return svg('a', { class: `node ${node.tone} ${node.shape}${node.hit ? ' hit' : ''}${node.current ? ' current' : ''}`, href: node.href, 'data-node': node.id }, ...parts);
  });
  const total = Math.ceil(Math.max(right + 8, 60)), tall = Math.ceil(bottom + 8);
  const scale = total > width ? Math.max(0.8, width / total) : 1;
  return svg('svg', { viewBox: `-2 -2 ${total} ${tall}`, width: Math.floor(total * scale), height: Math.floor(tall * scale), role: 'group', 'aria-label': words },
    svg('defs', {}, tip('on', 'var(--accent)'), tip('err', 'var(--bad)'), tip('idle', 'var(--strong)')), ...lines, ...labels, ...boxes);
}

// The same for a narrow screen: a list in the order of calls, each with what it calls.
export function list({ nodes, edges, words }) {
  const names = new Map(nodes.map((n) => [n.id, n]));
  const { spots } = layout(nodes.map((n) => ({ id: n.id, w: 10, h: 10 })), edges);
  const ordered = [...nodes].sort((a, b) => spots.get(a.id).x - spots.get(b.id).x || spots.get(a.id).y - spots.get(b.id).y);
  return el('ul', { className: 'nodes', 'aria-label': words }, ...ordered.map((node) => {
    const out = edges.filter((e) => e.from === node.id);
    return el('li', { className: `${node.tone} ${node.shape}${node.hit ? ' hit' : ''}${node.current ? ' current' : ''}` },
      el('p', {}, el('span', { className: 'lamp', 'aria-hidden': 'true' }), el('a', { href: node.href, 'data-node': node.id }, node.title), ' ', el('span', { className: 'note' }, [node.right, node.sub].filter(Boolean).join(' · '))),
      ...(out.length ? [el('ul', {}, ...out.map((e) => el('li', { className: `${e.tone}${e.dashed ? ' dep' : ''}` }, `→ ${names.get(e.to).title}`, e.label ? ` ${e.label}` : '')))] : []));
  }));
}

// A point of the curve between two points, at a share of the way.
function on(a, b, t) {
  const middle = (a.x + b.x) / 2, mix = (p, q, r, s) => (1 - t) ** 3 * p + 3 * (1 - t) ** 2 * t * q + 3 * (1 - t) * t * t * r + t ** 3 * s;
  return { x: mix(a.x, middle, middle, b.x), y: mix(a.y, a.y, b.y, b.y) };
}

function text(kind, x, y, value, anchor = 'start') {
  const node = svg('text', { class: kind, x, y, 'text-anchor': anchor });
  node.textContent = value;
  return node;
}

function titled(value) {
  const node = svg('title');
  node.textContent = value;
  return node;
}
