// The forms of what one does to a broker: declare, bind, move, and publish with everything a message has.
import { act, showError } from './actions.js';
import { ask, pairs } from './dialog.js';
import { $, clock, put } from './tools.js';

const TYPES = ['direct', 'fanout', 'topic', 'headers'];
const ARGUMENTS = { name: 'arguments', label: 'Arguments, a line each', kind: 'pairs', hint: 'x-message-ttl=60000' };
const send = (verb) => (body) => act(`/api/messaging/${verb}`, body);

export const declareQueue = () => ask({
  title: 'Declare a queue', button: 'Declare', send: send('declare-queue'),
  fields: [{ name: 'name', label: 'Name', required: true }, { name: 'durable', label: 'Durable: outlives a restart of the broker', kind: 'check', value: true }, ARGUMENTS],
});

export const declareExchange = () => ask({
  title: 'Declare an exchange', button: 'Declare', send: send('declare-exchange'),
  fields: [{ name: 'name', label: 'Name', required: true }, { name: 'type', label: 'Type', kind: 'select', options: TYPES, value: 'topic' }, { name: 'durable', label: 'Durable: outlives a restart of the broker', kind: 'check', value: true }, { ...ARGUMENTS, hint: 'alternate-exchange=unrouted' }],
});

export const bindDialog = ({ queue = '', exchange = '', exchanges }) => ask({
  title: queue ? `Bind ${queue}` : `Bind to ${exchange}`, button: 'Bind',
  send: ({ other, routing_key, arguments: table }) => send('bind')({ exchange: exchange || other, to: queue || other, routing_key, arguments: table }),
  fields: [queue ? { name: 'other', label: 'To exchange', kind: 'select', options: exchanges.map((x) => x.name).filter(Boolean), value: 'amq.topic' } : { name: 'other', label: 'Queue', required: true, list: 'queue-names' },
    { name: 'routing_key', label: 'Routing key' }, { ...ARGUMENTS, hint: 'x-match=any' }],
});

export const moveDialog = (source) => ask({
  title: `Move messages of ${source}`, text: 'Each is acknowledged only when its copy is confirmed: none is lost.', button: 'Move',
  send: ({ target, limit }) => send('move')({ source, target, limit: limit || null }),
  fields: [{ name: 'target', label: 'To queue', required: true, list: 'queue-names' }, { name: 'limit', label: 'At most', kind: 'number', hint: 'all' }],
});

const PROPERTIES = ['priority', 'expiration', 'correlation_id', 'reply_to', 'message_id', 'message_type'];
const NUMBERS = new Set(['priority']);

async function publish() {
  const form = $('publish'), button = form.querySelector('button[type=submit]'), properties = {};
  let headers;
  try { headers = pairs($('publish-headers').value); } catch (error) { showError({ message: `headers: ${error.message}` }); return; }
  for (const name of PROPERTIES) { const value = form.elements[name].value.trim(); if (value) properties[name] = NUMBERS.has(name) ? Number(value) : value; }
  if (form.elements.persistent.checked) properties.delivery_mode = 2;
  button.disabled = true;
  const problem = await act('/api/publish', { exchange: $('publish-exchange').value, routing_key: $('publish-key').value, body: $('publish-body').value, encoding: $('publish-base64').checked ? 'base64' : 'text', content_type: $('publish-type').value.trim() || 'text/plain', headers, properties });
  button.disabled = false;
  if (problem) { showError(problem); put($('published'), 'Not published.'); } else put($('published'), `Confirmed by the broker at ${clock(Date.now() / 1000)}.`);
}
$('publish').addEventListener('submit', (event) => { event.preventDefault(); publish(); });
