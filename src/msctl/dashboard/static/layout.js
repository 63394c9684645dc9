// Where the nodes of a graph go: in columns from callers to callees. Pure.
//
// Four steps, after Sugiyama: edges that close a circle are turned around; each node goes one column behind its last
// caller; edges over several columns get a bend in each, so that they pass between the nodes; nodes are ordered by the
// middle of their neighbours, to and fro, which leaves few crossings. Weak edges (what is only configured) have no say
// where other edges place their nodes, and are drawn straight. Nodes without edges go below, in a grid.

const BEND = 10, SWEEPS = 6, LOOP = 40;

// nodes: [{ id, w, h }], edges: [{ from, to, weak }]; returns { spots: id → { x, y }, paths: points of each edge, width, height }.
export function layout(nodes, edges, { gapX = 90, gapY = 12, width = 0 } = {}) {
  const size = new Map(nodes.map((n) => [n.id, n])), all = edges.filter((e) => size.has(e.from) && size.has(e.to) && e.from !== e.to);
  const strong = new Set(all.filter((e) => !e.weak).flatMap((e) => [e.from, e.to]));
  const valid = all.filter((e) => !e.weak || !strong.has(e.from) || !strong.has(e.to));
  const joined = new Set(valid.flatMap((e) => [e.from, e.to]));
  const flow = acyclic(nodes.filter((n) => joined.has(n.id)), valid), column = columns(nodes.filter((n) => joined.has(n.id)), flow);
  const layers = [], chains = new Map();
  const put = (cell) => { (layers[cell.column] = layers[cell.column] || []).push(cell); return cell; };
  const cells = new Map(nodes.filter((n) => joined.has(n.id)).map((n) => [n.id, put({ id: n.id, w: n.w, h: n.h, column: column.get(n.id), up: [], down: [] })]));
  flow.forEach(({ from, to, edge }) => {
    const chain = [cells.get(from)];
    for (let c = column.get(from) + 1; c < column.get(to); c++) chain.push(put({ w: 0, h: BEND, column: c, up: [], down: [] }));
    chain.push(cells.get(to));
    for (let i = 1; i < chain.length; i++) { chain[i - 1].down.push(chain[i]); chain[i].up.push(chain[i - 1]); }
    chains.set(edge, chain);
  });
  order(layers);
  const total = place(layers, gapX, gapY, width);
  const spots = new Map([...cells.values()].map((c) => [c.id, { x: c.x, y: c.y }]));
  const loose = nodes.filter((n) => !joined.has(n.id));
  let right = total.width, bottom = total.height;
  if (loose.length) {
    const w = Math.max(...loose.map((n) => n.w)), h = Math.max(...loose.map((n) => n.h));
    const across = Math.max(1, Math.floor((Math.max(width, total.width, w) + gapY) / (w + gapY))), top = bottom ? bottom + 2 * gapY : 0;
    loose.forEach((n, i) => spots.set(n.id, { x: (i % across) * (w + gapY), y: top + Math.floor(i / across) * (h + gapY) }));
    right = Math.max(right, Math.min(across, loose.length) * (w + gapY) - gapY);
    bottom = top + Math.ceil(loose.length / across) * (h + gapY) - gapY;
  }
  const widths = layers.map((layer) => Math.max(...layer.map((c) => c.w)));
  if (edges.some((e) => !chains.has(e) && spots.has(e.from) && spots.get(e.from).x === spots.get(e.to)?.x)) right += LOOP;
  const paths = edges.map((e) => chains.has(e) ? points(chains.get(e), e, widths) : straight(spots.get(e.from), spots.get(e.to), size.get(e.from), size.get(e.to)));
  return { spots, paths, width: right, height: bottom, columns: layers.length };
}

// Edges without circles: those that lead back to a node on the way to them are turned around.
function acyclic(nodes, edges) {
  const out = new Map(nodes.map((n) => [n.id, []])), into = new Map(nodes.map((n) => [n.id, 0]));
  for (const e of edges) { out.get(e.from).push(e); into.set(e.to, into.get(e.to) + 1); }
  const state = new Map(), back = new Set();
  const walk = (start) => {
    const path = [[start, 0]];
    state.set(start, 1);
    while (path.length) {
      const top = path[path.length - 1], list = out.get(top[0]);
      if (top[1] >= list.length) { state.set(top[0], 2); path.pop(); continue; }
      const e = list[top[1]++];
      if (state.get(e.to) === 1) back.add(e); else if (!state.get(e.to)) { state.set(e.to, 1); path.push([e.to, 0]); }
    }
  };
  for (const n of [...nodes].sort((a, b) => into.get(a.id) - into.get(b.id))) if (!state.get(n.id)) walk(n.id);
  return edges.map((edge) => back.has(edge) ? { from: edge.to, to: edge.from, edge } : { from: edge.from, to: edge.to, edge });
}

function columns(nodes, flow) {
  const column = new Map(nodes.map((n) => [n.id, 0])), left = new Map(nodes.map((n) => [n.id, 0])), out = new Map();
  for (const { from, to } of flow) { left.set(to, left.get(to) + 1); out.set(from, [...(out.get(from) || []), to]); }
  const ready = nodes.filter((n) => !left.get(n.id)).map((n) => n.id);
  while (ready.length) {
    const id = ready.shift();
    for (const to of out.get(id) || []) {
      column.set(to, Math.max(column.get(to), column.get(id) + 1));
      left.set(to, left.get(to) - 1);
      if (!left.get(to)) ready.push(to);
    }
  }
  // A caller that nobody calls goes right before its first callee: a queue's only publisher next to the queue.
  const called = new Set(flow.map((f) => f.to));
  for (const n of nodes) if (!called.has(n.id) && out.has(n.id)) column.set(n.id, Math.max(0, Math.min(...out.get(n.id).map((to) => column.get(to))) - 1));
  return column;
}

function order(layers) {
  layers.forEach((layer) => layer.forEach((cell, i) => { cell.at = i; }));
  const middle = (list) => { const found = list.map((c) => c.at / Math.max(1, layers[c.column].length - 1 || 1)).sort((a, b) => a - b); return found.length ? (found[(found.length - 1) >> 1] + found[found.length >> 1]) / 2 : null; };
  const sweep = (layer, side) => {
    const wanted = layer.map((cell) => { const m = middle(cell[side]); return [m === null ? cell.at / Math.max(1, layer.length - 1 || 1) : m, cell.at, cell]; });
    wanted.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    wanted.forEach(([, , cell], i) => { cell.at = i; layer[i] = cell; });
  };
  for (let i = 0; i < SWEEPS; i++) {
    if (i % 2 === 0) layers.slice(1).forEach((layer) => sweep(layer, 'up')); else [...layers].reverse().slice(1).forEach((layer) => sweep(layer, 'down'));
  }
}

function place(layers, gapX, gapY, width) {
  const widths = layers.map((layer) => Math.max(...layer.map((c) => c.w))), wide = widths.reduce((a, b) => a + b, 0);
  // Columns spread over the width that there is, up to twice the usual gap.
  const gap = layers.length > 1 ? Math.max(gapX, Math.min(2.6 * gapX, (width - wide) / (layers.length - 1))) : gapX;
  let x = 0;
  layers.forEach((layer, i) => { layer.forEach((c) => { c.x = x; }); x += widths[i] + gap; });
  const spaced = (layer, wanted) => {
    // Each as near to where it wants to be as the order allows: once from the top, once from the bottom, the middle.
    const downward = [], upward = [];
    layer.forEach((c, i) => { downward[i] = Math.max(wanted[i], i ? downward[i - 1] + layer[i - 1].h + gapY : -Infinity); });
    for (let i = layer.length - 1; i >= 0; i--) upward[i] = Math.min(wanted[i], i < layer.length - 1 ? upward[i + 1] - layer[i].h - gapY : Infinity);
    layer.forEach((c, i) => { c.y = (downward[i] + upward[i]) / 2; });
    layer.forEach((c, i) => { if (i) c.y = Math.max(c.y, layer[i - 1].y + layer[i - 1].h + gapY); });
  };
  layers.forEach((layer) => { let y = 0; const all = layer.reduce((n, c) => n + c.h + gapY, -gapY); layer.forEach((c) => { c.y = y - all / 2; y += c.h + gapY; }); });
  for (let i = 0; i < SWEEPS; i++) {
    const side = i % 2 === 0 ? 'up' : 'down', other = i % 2 === 0 ? 'down' : 'up', list = i % 2 === 0 ? layers : [...layers].reverse();
    for (const layer of list) spaced(layer, layer.map((c) => { const near = c[side].length ? c[side] : i > 1 ? c[other] : []; return near.length ? near.reduce((n, o) => n + o.y + o.h / 2, 0) / near.length - c.h / 2 : c.y; }));
  }
  const top = Math.min(...layers.flat().map((c) => c.y), Infinity), bottom = Math.max(...layers.flat().map((c) => c.y + c.h), -Infinity);
  if (!layers.length) return { width: 0, height: 0 };
  layers.flat().forEach((c) => { c.y -= top; });
  return { width: x - gap, height: bottom - top };
}

// From the right side of the first node to the left side of the last, level through the columns between them.
function points(chain, edge, widths) {
  const turned = chain[0].id !== edge.from, last = chain.length - 1;
  const found = chain.flatMap((c, i) => {
    const y = c.y + c.h / 2;
    return i === 0 ? [{ x: c.x + c.w, y }] : i === last ? [{ x: c.x, y }] : [{ x: c.x, y }, { x: c.x + widths[c.column], y }];
  });
  return turned ? found.reverse() : found;
}

function straight(a, b, one, other) {
  if (!a || !b || a === b) return [];
  const from = { x: a.x + one.w, y: a.y + one.h / 2 }, to = { x: b.x, y: b.y + other.h / 2 };
  if (to.x > from.x) return [from, to];
  if (a.x > b.x) return [{ x: a.x, y: from.y }, { x: b.x + other.w, y: to.y }];
  // In one column: a loop from right side to right side.
  return [from, { x: b.x + other.w, y: to.y }];
}

// A path through the points with level ends; a loop where two points stand one above the other.
export function curve(found) {
  const [a, b] = found;
  if (found.length === 2 && a.x === b.x) return `M${round(a.x)},${round(a.y)}C${round(a.x + LOOP)},${round(a.y)} ${round(b.x + LOOP)},${round(b.y)} ${round(b.x)},${round(b.y)}`;
  return found.map(({ x, y }, i) => {
    if (!i) return `M${round(x)},${round(y)}`;
    const before = found[i - 1], bend = (x - before.x) / 2;
    return `C${round(before.x + bend)},${round(before.y)} ${round(x - bend)},${round(y)} ${round(x)},${round(y)}`;
  }).join('');
}
const round = (n) => Math.round(n * 10) / 10;
