// The order of tables, and addresses of views.
import assert from 'node:assert/strict';
import test from 'node:test';
import { address, parse } from './address.js';
import { next, sorted } from './sorting.js';

const values = { name: (r) => r.name, n: (r) => r.n };
const rows = [{ name: 'job-10', n: 2 }, { name: 'job-2', n: null }, { name: 'job-1', n: 9 }];

test('texts sort as people number them, and missing values come last either way', () => {
  assert.deepEqual(sorted(rows, 'name', values).map((r) => r.name), ['job-1', 'job-2', 'job-10']);
  assert.deepEqual(sorted(rows, 'n', values).map((r) => r.n), [2, 9, null]);
  assert.deepEqual(sorted(rows, '-n', values).map((r) => r.n), [9, 2, null]);
  assert.equal(sorted(rows, 'unknown', values), rows);
});

test('a second click turns the order around', () => {
  assert.deepEqual([next('', 'n', true), next('-n', 'n', true), next('n', 'n', true), next('n', 'name', false)], ['-n', 'n', '-n', 'name']);
});

test('an address says what is open and leaves out what is not', () => {
  assert.equal(address('traces', { text: 'a&b', errors: false, id: '', run: null, live: true }), '#/traces?text=a%26b&live=1');
  assert.equal(parse('#/traces?text=a%26b').query.get('text'), 'a&b');
  assert.equal(parse('').view, '');
});
