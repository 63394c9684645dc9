// The page's graph: what it is built from, how it is narrowed and folded, and where its nodes go.
import assert from 'node:assert/strict';
import test from 'node:test';
import { around, build, group, queueId, search } from './graph.js';
import { curve, layout } from './layout.js';

const service = (name, more = {}) => ({ name, kind: 'hosted', state: 'ready', addresses: [], routes: [], depends_on: [], messages: [], instances: [{ name: `${name}-1`, address: null }], requests_per_s: null, errors_per_s: null, ...more });
const snapshot = (services, queues = []) => ({ services, broker: { state: 'ready', queues } });
const call = (caller, callee, kind = 'http', more = {}) => ({ caller, callee, kind, count: 1, errors: 0, p95_s: 0.1, trace_id: 't', outside: false, ...more });
const edge = (graph, from, to) => graph.edges.find((e) => e.from === from && e.to === to);

test('what was observed and what is configured are told apart', () => {
  const graph = build(snapshot([service('gateway'), service('orders', { routes: ['/orders'], depends_on: ['users'] }), service('users')]), [call('gateway', 'orders', 'http', { count: 3, errors: 1 })]);
  assert.deepEqual([edge(graph, 'gateway', 'orders').observed, edge(graph, 'gateway', 'orders').errors], [true, 1]);
  assert.deepEqual([edge(graph, 'orders', 'users').observed, edge(graph, 'orders', 'users').configured], [false, true]);
});

test('messages lead through their queue', () => {
  const graph = build(snapshot([service('api'), service('worker')]), [call('api', 'jobs', 'send'), call('jobs', 'worker', 'receive', { errors: 1 })]);
  assert.equal(edge(graph, 'api', queueId('jobs')).message, true);
  assert.equal(edge(graph, queueId('jobs'), 'worker').errors, 1);
});

test('an address is the service that listens there, and anything else is outside', () => {
  const graph = build(snapshot([service('api'), service('pay', { addresses: ['127.0.0.1:8083'] })]), [
    call('api', 'pay-1', 'http', { outside: true }), call('api', 'localhost:8083', 'http', { outside: true }), call('api', 'db.local:5432', 'http', { outside: true })]);
  assert.equal(edge(graph, 'api', 'pay').count, 2);
  assert.equal(graph.nodes.find((n) => n.id === 'db.local:5432').kind, 'outside');
});

const many = (count, name = (i) => `svc${i}`) => build(snapshot([service('gateway'), ...Array.from({ length: count }, (_, i) => service(name(i), { routes: [`/${i}`] }))]));

test('a neighbourhood and a search keep what they are about', () => {
  const graph = build(snapshot([service('a', { depends_on: ['b'] }), service('b', { depends_on: ['c'] }), service('c'), service('d')]));
  assert.deepEqual(around(graph, ['a'], 1).nodes.map((n) => n.id), ['a', 'b']);
  assert.deepEqual(around(graph, ['a'], 2).nodes.map((n) => n.id), ['a', 'b', 'c']);
  const found = search(graph, 'B');
  assert.deepEqual([found.hits, found.nodes.map((n) => [n.id, Boolean(n.hit)])], [1, [['a', false], ['b', true], ['c', false]]]);
});

test('many services fold into groups by name, which open one by one', () => {
  const graph = many(60, (i) => `${['pay', 'ship', 'user'][i % 3]}-${i}`), folded = group(graph, 24);
  assert.deepEqual(folded.nodes.map((n) => n.name).sort(), ['gateway', 'pay-*', 'ship-*', 'user-*']);
  assert.equal(folded.nodes.find((n) => n.name === 'pay-*').members.length, 20);
  assert.equal(group(graph, 24, new Set(['pay'])).nodes.length, 3 + 20);
});

test('services without names alike fold where they are called alike, but never one that fails', () => {
  const graph = many(200);
  graph.nodes.find((n) => n.id === 'svc7').tone = 'bad';
  const folded = group(graph, 24);
  assert.deepEqual(folded.nodes.map((n) => n.kind).sort(), ['group', 'service', 'service']);
  assert.ok(folded.nodes.some((n) => n.id === 'svc7'));
  assert.equal(group(many(10), 24).nodes.length, 11);
});

const boxes = (ids) => ids.map((id) => ({ id, w: 100, h: 30 }));

test('callers stand left of callees, and nothing overlaps', () => {
  const ids = Array.from({ length: 40 }, (_, i) => `n${i}`), edges = ids.slice(1).map((to, i) => ({ from: `n${Math.floor(i / 3)}`, to }));
  edges.push({ from: 'n0', to: 'n39' }, { from: 'n2', to: 'n30' });
  const { spots, paths, width, height } = layout(boxes(ids), edges);
  for (const { from, to } of edges) assert.ok(spots.get(from).x + 100 <= spots.get(to).x);
  const placed = ids.map((id) => spots.get(id));
  placed.forEach((a, i) => placed.slice(i + 1).forEach((b) => assert.ok(Math.abs(a.x - b.x) >= 100 || Math.abs(a.y - b.y) >= 30, 'overlap')));
  assert.ok(placed.every(({ x, y }) => x >= 0 && y >= 0 && x + 100 <= width + 0.01 && y + 30 <= height + 0.01));
  assert.equal(paths.length, edges.length);
});

test('a circle of calls, a lonely service and an empty system are placed', () => {
  const { spots, paths } = layout(boxes(['a', 'b', 'c', 'alone']), [{ from: 'a', to: 'b' }, { from: 'b', to: 'c' }, { from: 'c', to: 'a' }]);
  assert.equal(spots.size, 4);
  assert.ok(paths.every((p) => p.length >= 2));
  assert.deepEqual(layout([], []), { spots: new Map(), paths: [], width: 0, height: 0, columns: 0 });
});

test('what is only configured moves nothing that was observed, and is drawn all the same', () => {
  const strong = [{ from: 'a', to: 'b' }, { from: 'a', to: 'c' }], weak = [{ from: 'b', to: 'c', weak: true }, { from: 'c', to: 'a', weak: true }];
  const { spots, paths } = layout(boxes(['a', 'b', 'c']), [...strong, ...weak]);
  assert.equal(spots.get('b').x, spots.get('c').x);
  assert.ok(paths.every((p) => p.length >= 2));
  assert.ok(curve(paths[2]).startsWith('M'));
});

test('two hundred services are laid out within the time of a frame or two', () => {
  const ids = Array.from({ length: 200 }, (_, i) => `n${i}`), edges = Array.from({ length: 600 }, (_, i) => ({ from: `n${i % 150}`, to: `n${(i * 7 + 13) % 200}` }));
  assert.equal(layout(boxes(ids), edges).spots.size, 200);
});
