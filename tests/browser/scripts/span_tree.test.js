// Spans in order, two traces side by side, and the line that raised.
import assert from 'node:assert/strict';
import test from 'node:test';
import { merge, raised, raisedAt, request, title, tree } from './span_tree.js';

const span = (span_id, parent_id, name, start = 0, more = {}) => ({ span_id, parent_id, name, service: 's', kind: 'server', start, duration_s: 1, error: false, message: '', events: [], attributes: {}, ...more });

test('spans stand below their parents, and a circle loses none', () => {
  assert.deepEqual(tree([span('b', 'a', 'B', 1), span('a', null, 'A', 0), span('c', 'gone', 'C', 2)]).map(([s, d]) => [s.name, d]), [['A', 0], ['B', 1], ['C', 0]]);
  assert.equal(tree([span('a', 'b', 'A'), span('b', 'a', 'B')]).length, 2);
});

test('two traces match by name below matched parents; what only one has keeps its place', () => {
  const left = [span('1', null, 'GET /'), span('2', '1', 'read', 1), span('3', '1', 'read', 2), span('4', '1', 'charge', 3)];
  const right = [span('x', null, 'GET /'), span('y', 'x', 'read', 1), span('z', 'x', 'cache', 2), span('w', 'x', 'charge', 3)];
  assert.deepEqual(merge(left, right).map(({ depth, a, b }) => [depth, a && a.span_id, b && b.span_id]),
    [[0, '1', 'x'], [1, '2', 'y'], [1, '3', null], [1, null, 'z'], [1, '4', 'w']]);
  assert.deepEqual(merge([], [span('x', null, 'GET /')]).map(({ a, b }) => [a, b.span_id]), [[null, 'x']]);
});

test('what was raised is said in a line, and where in the program', () => {
  const event = { name: 'exception', attributes: { 'exception.type': 'KeyError', 'exception.message': "'id'" } };
  assert.equal(raised(span('a', null, 'A', 0, { events: [event] })), "KeyError: 'id'");
  assert.equal(raised(span('a', null, 'A', 0, { error: true, message: 'no stock' })), 'no stock');
  assert.equal(raisedAt('Traceback\n  File "/app/api.py", line 12, in charge\n  File "/v/site-packages/httpx/_c.py", line 9, in send\nKeyError'), '/app/api.py:12');
  assert.equal(raisedAt('Error: no stock\n    at charge (file:///app/worker.mjs:17:11)\n    at node:internal/x:1:2'), '/app/worker.mjs:17');
  assert.equal(raisedAt('nothing that looks like a frame'), '');
});

test('a request is named by its path, and a span by the path that its route stands for', () => {
  assert.equal(request({ name: 'GET /items/{id}', path: '/items/7' }), 'GET /items/7');
  assert.equal(request({ name: 'GET', path: '/nothing' }), 'GET /nothing');
  assert.equal(request({ name: 'process hello', path: '' }), 'process hello');
  const span = (name, kind, attributes) => ({ name, kind, attributes });
  assert.equal(title(span('GET /items/{id}', 'server', { 'url.path': '/items/7', 'http.route': '/items/{id}' })), 'GET /items/{id} (/items/7)');
  assert.equal(title(span('GET /items', 'server', { 'url.path': '/items', 'http.route': '/items' })), 'GET /items');
  assert.equal(title(span('GET', 'client', { 'service.peer.instance.id': 'users-2' })), 'GET to users-2');
});
