// Spans in their order, and the spans of two traces side by side. Pure.

const MAX_DEPTH = 64;

function children(spans) {
  const ids = new Set(spans.map((s) => s.span_id)), below = new Map();
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    const parent = ids.has(span.parent_id) && span.parent_id !== span.span_id ? span.parent_id : null;
    if (!below.has(parent)) below.set(parent, []);
    below.get(parent).push(span);
  }
  return below;
}

// Depth first: each span below its parent, with its depth. Spans in a circle come last, so that none is lost.
export function tree(spans) {
  const below = children(spans), out = [], seen = new Set();
  const walk = (list, depth) => {
    for (const span of list) {
      if (seen.has(span.span_id)) continue;
      seen.add(span.span_id);
      out.push([span, depth]);
      walk(below.get(span.span_id) || [], Math.min(depth + 1, MAX_DEPTH));
    }
  };
  walk(below.get(null) || [], 0);
  walk(spans, 0);
  return out;
}

// The method and the path of a trace's request, of which the name has the route alone; another name as it is.
export const request = (summary) => (summary.path ? `${summary.name.split(' ')[0]} ${summary.path}` : summary.name);

// A span's name, with the path that its route stands for, or the instance that was asked.
export function title(span) {
  const path = span.attributes['url.path'], peer = span.attributes['service.peer.instance.id'];
  if (span.kind === 'client' && peer) return `${span.name} to ${peer}`;
  if (span.kind === 'server' && path && path !== span.attributes['http.route']) return `${span.name} (${path})`;
  return span.name;
}

export function extent(spans) {
  const begin = Math.min(...spans.map((s) => s.start)), end = Math.max(...spans.map((s) => s.start + s.duration_s));
  return { begin, seconds: Math.max(end - begin, 1e-9) };
}

// Two traces as rows of { depth, a, b }: spans match below matched parents, by service, name and kind, the first
// with the first. What only one trace has stands where that trace has it, with null for the other.
export function merge(left, right) {
  const below = [children(left), children(right)], rows = [], seen = new Set();
  const name = (span) => `${span.service}\0${span.name}\0${span.kind}`;
  const walk = (as, bs, depth) => {
    const waiting = new Map();
    for (const b of bs) waiting.set(name(b), [...(waiting.get(name(b)) || []), b]);
    const pairs = as.map((a) => [a, (waiting.get(name(a)) || []).shift() || null]);
    const taken = new Set(pairs.map(([, b]) => b)), rest = bs.filter((b) => !taken.has(b));
    // The unmatched spans of b go before the first pair whose b began later.
    for (const b of rest) {
      const at = pairs.findIndex(([, other]) => other && other.start > b.start);
      pairs.splice(at < 0 ? pairs.length : at, 0, [null, b]);
    }
    for (const [a, b] of pairs) {
      if ((a && seen.has(a)) || (b && seen.has(b))) continue;
      seen.add(a || b).add(b || a);
      rows.push({ depth, a, b });
      walk((a && below[0].get(a.span_id)) || [], (b && below[1].get(b.span_id)) || [], Math.min(depth + 1, MAX_DEPTH));
    }
  };
  walk(below[0].get(null) || [], below[1].get(null) || [], 0);
  return rows;
}

// The exception of a span as one line, else why its program says that it failed; empty for one that did not.
export function raised(span) {
  const event = span.events.find((e) => e.name === 'exception');
  if (event) return [event.attributes['exception.type'], event.attributes['exception.message']].filter(Boolean).join(': ') || 'exception';
  return span.error ? span.message || '' : '';
}

// The line of a program's own code that raised: of the last frames in a stack trace, the first that is no library's.
export function raisedAt(stack) {
  const frames = [...stack.matchAll(/File "([^"]+)", line (\d+)/g)].map((m) => [m[1], m[2]]).reverse();
  const node = frames.length ? [] : [...stack.matchAll(/\(?((?:file:\/\/)?[^\s()]+\.[cm]?[jt]sx?):(\d+):\d+\)?/g)].map((m) => [m[1].replace('file://', ''), m[2]]);
  const java = frames.length || node.length ? [] : [...stack.matchAll(/\(([\w$]+\.(?:java|kt|go|rb|cs)):(\d+)\)/g)].map((m) => [m[1], m[2]]);
  const all = [...frames, ...node, ...java];
  const own = all.find(([file]) => !/site-packages|dist-packages|node_modules|node:|\/lib\/python|^<|runtime\//.test(file));
  const found = own || all[0];
  return found ? `${found[0]}:${found[1]}` : '';
}
