// What runs and who calls whom, as a graph: from the state, and from the calls that traces have. Pure.
import { condition, GOOD } from './state.js';

const TONES = ['off', 'good', 'warn', 'bad'];
const worse = (a, b) => TONES.indexOf(a) >= TONES.indexOf(b) ? a : b;
export const queueId = (name) => `queue ${name}`;

// nodes: id → { id, kind: service | queue | outside, name, tone, service?, queue? }
// edges: [{ from, to, message, observed, configured, count, errors, p95, trace, perS, failsPerS }]
export function build(snapshot, calls = []) {
  const nodes = new Map(), edges = new Map(), owners = new Map();
  const add = (id, node) => { if (!nodes.has(id)) nodes.set(id, { id, ...node }); return id; };
  for (const service of snapshot.services) {
    add(service.name, { kind: 'service', name: service.name, tone: condition(service), service });
    for (const instance of service.instances) { owners.set(instance.name, service.name); if (instance.address) owners.set(instance.address, service.name); }
    for (const address of service.addresses) owners.set(address.replace(/^[a-z][a-z0-9+.-]*:\/\//, '').replace(/\/.*/, ''), service.name);
  }
  const known = new Map((snapshot.broker.queues || []).map((q) => [q.name, q]));
  const queue = (name) => add(queueId(name), { kind: 'queue', name, tone: GOOD.has(snapshot.broker.state) ? 'good' : 'bad', queue: known.get(name) || null });
  const edge = (from, to, change, message = false) => {
    if (from === to) return;
    const key = `${from}\n${to}`;
    const one = edges.get(key) || { from, to, message, observed: false, configured: false, count: 0, errors: 0, p95: null, trace: '', perS: null, failsPerS: 0 };
    change(one);
    edges.set(key, one);
  };
  // An address of this machine, whatever name it is given, is the service's that listens there.
  const local = (address) => owners.get(address) || owners.get(address.replace(/^(localhost|127\.0\.0\.1|\[?::1\]?|0\.0\.0\.0):/, '127.0.0.1:')) || owners.get(address.replace(/^(localhost|127\.0\.0\.1|\[?::1\]?):/, 'localhost:'));
  const party = (name, outside) => nodes.has(name) ? name : local(name) || add(name, { kind: 'outside', name, tone: outside ? 'off' : 'good' });

  const gateway = snapshot.services.find((s) => s.name === 'gateway');
  for (const service of snapshot.services) {
    if (gateway && service !== gateway && service.routes.length) {
      edge('gateway', service.name, (e) => { e.configured = true; e.perS = service.requests_per_s; e.failsPerS = service.errors_per_s || 0; });
    }
    for (const name of service.depends_on) if (nodes.has(name)) edge(service.name, name, (e) => { e.configured = true; });
    for (const flow of service.messages) {
      const id = queue(flow.queue), [from, to] = flow.sends ? [service.name, id] : [id, service.name];
      edge(from, to, (e) => { e.observed = e.observed || flow.per_s > 0; e.configured = true; e.perS = flow.per_s; }, true);
    }
  }
  for (const call of calls) {
    const message = call.kind !== 'http';
    const from = call.kind === 'receive' ? queue(call.caller) : party(call.caller);
    const to = call.kind === 'send' ? queue(call.callee) : party(call.callee, call.outside);
    edge(from, to, (e) => {
      e.observed = true;
      e.count += call.count;
      e.errors += call.errors;
      e.p95 = Math.max(e.p95 || 0, call.p95_s);
      if (!e.trace || call.errors) e.trace = call.trace_id;
    }, message);
  }
  return { nodes: [...nodes.values()], edges: [...edges.values()] };
}

// The nodes within `depth` steps of one of `ids`, in either direction, and the edges among them.
export function around(graph, ids, depth) {
  const near = new Map(), kept = new Set(ids);
  for (const { from, to } of graph.edges) { for (const [a, b] of [[from, to], [to, from]]) near.set(a, [...(near.get(a) || []), b]); }
  let border = [...kept];
  for (let step = 0; step < depth; step++) {
    border = border.flatMap((id) => near.get(id) || []).filter((id) => !kept.has(id));
    border.forEach((id) => kept.add(id));
  }
  return within(graph, kept);
}

function within(graph, kept) {
  return { nodes: graph.nodes.filter((n) => kept.has(n.id)), edges: graph.edges.filter((e) => kept.has(e.from) && kept.has(e.to)) };
}

// What has the text in its name, with what it calls and what calls it.
export function search(graph, text) {
  const needle = text.trim().toLowerCase();
  const hits = graph.nodes.filter((n) => n.name.toLowerCase().includes(needle)).map((n) => n.id);
  const found = around(graph, hits, 1), hit = new Set(hits);
  return { nodes: found.nodes.map((n) => hit.has(n.id) ? { ...n, hit: true } : n), edges: found.edges.filter((e) => hit.has(e.from) || hit.has(e.to)), hits: hits.length };
}

const MIN_GROUP = 3;
const prefix = (name) => (/^[^-_.:/]+(?=[-_.:/])/.exec(name) || [''])[0];

// Folds a graph of more than `most` nodes into groups: by the first part of the names, and then what has the same
// callers and the same callees. `open` are groups that stay open. Groups are named "pay-*" or "3 alike".
export function group(graph, most, open = new Set()) {
  if (graph.nodes.length <= most) return { ...graph, groups: [] };
  const to = new Map(), found = [];
  const gather = (key, label, members) => {
    if (members.length < MIN_GROUP) return;
    found.push({ id: `group ${key}`, key, label, size: members.length });
    if (open.has(key)) members.forEach((n) => to.set(n.id, null));
    else members.forEach((n) => to.set(n.id, `group ${key}`));
  };
  const byPrefix = collect(graph.nodes.filter((n) => prefix(n.name)), (n) => `${n.kind === 'queue' ? 'queue ' : ''}${prefix(n.name)}`);
  for (const [key, members] of byPrefix) if (members.length < graph.nodes.length) gather(key, `${key.replace(/^queue /, '')}-*`, members);
  const folded = () => graph.nodes.length - to.size + new Set(to.values()).size;
  if (folded() > most) {
    const place = (id) => to.get(id) || id, near = new Map();
    for (const { from, to: end } of graph.edges) {
      near.set(from, (near.get(from) || new Set()).add(`>${place(end)}`));
      near.set(end, (near.get(end) || new Set()).add(`<${place(from)}`));
    }
    const alike = collect(graph.nodes.filter((n) => !to.has(n.id) && n.tone !== 'bad'), (n) => `${n.kind} ${[...(near.get(n.id) || [])].sort().join()}`);
    for (const [, members] of alike) gather(`${members[0].name}…`, members[0].name, members);
  }
  return { ...fold(graph, to, found), groups: found };
}

function collect(list, key) {
  const found = new Map();
  for (const one of list) { const k = key(one); if (!found.has(k)) found.set(k, []); found.get(k).push(one); }
  return found;
}

function fold(graph, to, groups) {
  const place = (id) => to.get(id) || id, nodes = new Map(), edges = new Map();
  for (const node of graph.nodes) {
    const id = place(node.id);
    if (id === node.id) { nodes.set(id, node); continue; }
    const one = nodes.get(id) || { id, kind: 'group', name: groups.find((g) => g.id === id).label, key: groups.find((g) => g.id === id).key, tone: 'off', members: [], perS: 0 };
    one.members.push(node);
    one.tone = worse(one.tone, node.tone);
    one.perS += (node.service && node.service.requests_per_s) || 0;
    one.hit = one.hit || node.hit;
    nodes.set(id, one);
  }
  for (const edge of graph.edges) {
    const from = place(edge.from), end = place(edge.to), key = `${from}\n${end}`;
    if (from === end) continue;
    const one = edges.get(key);
    if (!one) { edges.set(key, { ...edge, from, to: end }); continue; }
    for (const sum of ['count', 'errors', 'failsPerS']) one[sum] += edge[sum];
    one.perS = one.perS === null && edge.perS === null ? null : (one.perS || 0) + (edge.perS || 0);
    one.p95 = one.p95 === null ? edge.p95 : Math.max(one.p95, edge.p95 || 0);
    one.observed = one.observed || edge.observed;
    one.configured = one.configured || edge.configured;
    one.message = one.message && edge.message;
    if (edge.errors || !one.trace) one.trace = edge.trace || one.trace;
  }
  return { nodes: [...nodes.values()], edges: [...edges.values()] };
}

export const failing = (edge) => edge.errors > 0 || edge.failsPerS > 0;
export const busy = (edge) => edge.observed || edge.perS > 0;
