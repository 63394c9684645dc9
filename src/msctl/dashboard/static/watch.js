// The messages of a queue, present and new ones, without consuming them.
import { showError } from './actions.js';
import { $, el, plural, put } from './tools.js';

const KEEP = 200;

export const watch = {
  source: null,

  parts(queue) {
    return [
      el('h4', {}, 'Messages'),
      el('div', { className: 'tools' }, el('button', { type: 'button', id: 'peek-button', onclick: () => { if (this.source) { this.stop(); put($('peek-note'), 'Stopped.'); } else this.start(queue); } }, 'Watch'),
        el('span', { className: 'note', id: 'peek-how' })),
      el('p', { className: 'note', id: 'peek-note', role: 'status' }),
      el('ol', { id: 'messages', className: 'messages', 'aria-label': 'Messages, newest first', tabIndex: 0 }),
    ];
  },

  how(embedded) { put($('peek-how'), embedded ? 'Watching does not consume messages.' : 'Messages are consumed and requeued at once, which marks them as redelivered.'); },

  start(queue) {
    this.stop();
    $('messages').replaceChildren();
    put($('peek-note'), `Opening ${queue}…`);
    put($('peek-button'), 'Stop');
    const source = this.source = new EventSource(`/api/peek?${new URLSearchParams({ queue })}`);
    let seen = 0;
    source.addEventListener('messages', (event) => {
      const { missed, messages } = JSON.parse(event.data);
      seen += missed + messages.length;
      put($('peek-note'), seen ? `${plural(seen, 'message')} seen in ${queue}.` : `${queue} is empty. New messages appear here.`);
      for (const message of messages) $('messages').prepend(this.message(message));
      while ($('messages').children.length > KEEP) $('messages').lastChild.remove();
    });
    source.addEventListener('failed', (event) => { const problem = JSON.parse(event.data); this.stop(); put($('peek-note'), problem.message); showError(problem); });
    source.onerror = () => { if (this.source === source) { this.stop(); put($('peek-note'), 'The stream ended.'); } };
  },

  message(m) {
    const facts = [m.content_type, `${m.size.toLocaleString('en')} B`, m.exchange && `exchange ${m.exchange}`, m.routing_key && `key ${m.routing_key}`, m.redelivered && 'redelivered', ...Object.entries(m.headers).map(([k, v]) => `${k}=${v}`)].filter(Boolean);
    return el('li', {}, el('pre', { tabIndex: 0 }, m.body), el('p', { className: 'note' }, facts.join(' · ')));
  },

  stop() {
    if (this.source) this.source.close();
    this.source = null;
    if ($('peek-button')) put($('peek-button'), 'Watch');
  },
};
