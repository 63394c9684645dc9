// The broker's queues: publish to one, watch one.
import { act, showError } from './actions.js';
import { GOOD, page } from './state.js';
import { $, clip, clock, el, plural, put, rate, sparkline } from './tools.js';

export const queues = {
  rows: new Map(), before: new Map(), depths: new Map(), peeking: null,

  show(snapshot) {
    const broker = snapshot.broker, list = broker.queues;
    put($('broker'), `Broker · ${broker.mode}`);
    put($('broker-note'), [broker.url, broker.state + (broker.reason ? `: ${broker.reason}` : ''), broker.connections === null ? '' : plural(broker.connections, 'connection')].filter(Boolean).join(' · '));
    $('queue-table').hidden = !list || !list.length;
    $('no-queues').hidden = Boolean(list && list.length);
    put($('no-queues'), list ? 'The broker has no queues yet.' : GOOD.has(broker.state) ? 'The queues of an external broker are unknown. Enter a name below to publish to a queue or to watch it.' : 'The broker is unreachable.');
    put($('peek-how'), broker.mode === 'embedded' ? 'Watching does not consume messages.' : 'Messages are consumed and requeued at once, which marks them as redelivered.');
    const now = snapshot.uptime_s, names = (list || []).map((q) => q.name);
    const flows = snapshot.services.flatMap((s) => s.messages.map((m) => m.queue));
    const known = [...new Set([...names, ...flows])].slice(0, 200).join('\n');
    if (known !== this.known) { this.known = known; $('queue-names').replaceChildren(...known.split('\n').filter(Boolean).map((n) => el('option', { value: n }))); }
    for (const [name, row] of this.rows) if (!names.includes(name)) { row.node.remove(); this.rows.delete(name); this.depths.delete(name); this.before.delete(name); }
    for (const queue of list || []) {
      const past = this.before.get(queue.name), span = past ? now - past.now : 0;
      const speed = (field) => queue[field] === null || !past || span <= 0 ? null : Math.max(0, (queue[field] - past[field]) / span);
      const depth = this.depths.get(queue.name) || [];
      depth.push(queue.ready);
      if (depth.length > 60) depth.shift();
      this.depths.set(queue.name, depth);
      // The rate over about ten seconds, so that it is steady.
      const history = past ? past.history : [];
      history.push({ now, published: queue.published, delivered: queue.delivered });
      if (history.length > 10) history.shift();
      this.before.set(queue.name, { ...history[0], history });
      if (page.view === 'queues') this.draw(queue, speed('published'), speed('delivered'), depth);
    }
  },

  draw(queue, input, output, depth) {
    let row = this.rows.get(queue.name);
    if (!row) {
      const cell = (props = {}, ...children) => el('td', { role: 'cell', ...props }, ...children);
      row = { cells: Array.from({ length: 5 }, () => cell({ className: 'num' })), depth: cell() };
      row.node = el('tr', { role: 'row' }, cell({ className: 'name' }, clip(queue.name, 60)), ...row.cells, row.depth, cell({ className: 'num' }, el('div', { className: 'acts' },
        ...(page.can.queues ? [
          el('button', { type: 'button', 'aria-label': `Publish to ${queue.name}`, onclick: () => { $('publish-queue').value = queue.name; $('publish-body').focus(); } }, 'Publish'), ' ',
          el('button', { type: 'button', 'aria-label': `Watch ${queue.name}`, onclick: () => { $('peek-queue').value = queue.name; this.peek(); } }, 'Watch')] : []))));
      this.rows.set(queue.name, row);
      $('queue-rows').append(row.node);
    }
    [queue.ready.toLocaleString('en'), queue.unacked.toLocaleString('en'), String(queue.consumers), rate(input), rate(output)].forEach((text, i) => put(row.cells[i], text));
    row.depth.replaceChildren(sparkline(depth.length > 1 ? depth : [queue.ready, queue.ready], `${queue.ready} messages now`));
  },

  async publish() {
    const button = $('publish').querySelector('button');
    button.disabled = true;
    const queue = $('publish-queue').value.trim();
    const problem = await act('/api/publish', { routing_key: queue, body: $('publish-body').value, content_type: $('publish-type').value.trim() || 'text/plain' });
    button.disabled = false;
    if (problem) { showError(problem); put($('published'), 'Not published.'); } else put($('published'), `Confirmed by the broker at ${clock(Date.now() / 1000)}.`);
  },

  peek() {
    this.stop();
    const queue = $('peek-queue').value.trim();
    if (!queue) return;
    $('messages').replaceChildren();
    put($('peek-note'), `Opening ${queue}…`);
    put($('peek-button'), 'Stop');
    const source = this.peeking = new EventSource(`/api/peek?${new URLSearchParams({ queue })}`);
    let count = 0;
    source.addEventListener('messages', (event) => {
      const { missed, messages } = JSON.parse(event.data);
      count += missed + messages.length;
      put($('peek-note'), count ? `${plural(count, 'message')} seen in ${queue}.` : `${queue} is empty. New messages appear here.`);
      for (const message of messages) $('messages').prepend(this.message(message));
      while ($('messages').children.length > 200) $('messages').lastChild.remove();
    });
    source.addEventListener('failed', (event) => { const problem = JSON.parse(event.data); this.stop(); put($('peek-note'), problem.message); showError(problem); });
    source.onerror = () => { if (this.peeking === source) { this.stop(); put($('peek-note'), 'The stream ended.'); } };
  },

  message(m) {
    const facts = [m.content_type, `${m.size.toLocaleString('en')} B`, m.exchange && `exchange ${m.exchange}`, m.routing_key && `key ${m.routing_key}`, m.redelivered && 'redelivered', ...Object.entries(m.headers).map(([k, v]) => `${k}=${v}`)].filter(Boolean);
    return el('li', {}, el('pre', { tabIndex: 0 }, m.body), el('p', { className: 'note' }, facts.join(' · ')));
  },

  stop() {
    if (this.peeking) this.peeking.close();
    this.peeking = null;
    put($('peek-button'), 'Watch');
  },
};
$('publish').addEventListener('submit', (event) => { event.preventDefault(); queues.publish(); });
$('peek').addEventListener('submit', (event) => { event.preventDefault(); if (queues.peeking) { queues.stop(); put($('peek-note'), 'Stopped.'); } else queues.peek(); });
