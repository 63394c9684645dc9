// The stream of server-sent events, and the banner that says whether it is connected.
//
// Tabs share one stream, because browsers allow six connections to a host: among the visible tabs, the one that holds
// a lock reads it and passes each event on over a channel. When it is hidden or closed, the lock goes to the next.
// A tab that hears nothing takes the lock. Each tab has its own log: a new one asks the reader for the lines so far.
import { page } from './state.js';
import { $, clock, mark, put, uptime } from './tools.js';

const QUIET_MS = 6000, LOCK = 'msctl-stream';
const shared = Boolean(navigator.locks && window.BroadcastChannel);
const channel = shared ? new BroadcastChannel(LOCK) : null, tab = Math.random().toString(36).slice(2);
let stream = null, retry = 0, on = null, release = null, waiting = null, holder = null, complete = false;

// `handlers`: state(snapshot), lines(batch), newStack(), last() (the last line seen), since(number) (lines after it),
// connected(session), live() and disconnected().
export function start(handlers) { on = handlers; connect(); }

async function connect() {
  clearTimeout(retry);
  if (document.hidden) return;
  let session;
  try {
    page.signedOut = false;
    const answer = await fetch('/api/session', { cache: 'no-store' });
    page.signedOut = answer.status === 401;
    if (!answer.ok) throw new Error(String(answer.status));
    session = await answer.json();
  } catch { disconnected(); return; }
  if (page.session && page.session !== session.session) { on.newStack(); complete = false; }
  Object.assign(page, { session: session.session, token: session.token, can: session });
  on.connected(session);
  page.heard = Date.now();
  if (!shared) { read(); return; }
  queue(false);
  if (!page.reads) ask();
}

function ask() { channel.postMessage({ kind: 'ask', from: tab, session: page.session, after: on.last() }); }

// Waits for the lock, with which this tab reads the stream; `steal` takes it from a tab that has gone silent.
function queue(steal) {
  if (page.reads || (waiting && !steal)) return;
  if (waiting) waiting.abort();
  const me = new AbortController();
  waiting = me;
  navigator.locks.request(LOCK, steal ? { steal } : { signal: me.signal }, () => {
    if (waiting === me) waiting = null;
    if (document.hidden) return null;
    page.reads = true;
    holder = me;
    read();
    return new Promise((done) => { release = done; });
  }).catch(() => {
    // No longer wanted, or another tab took it.
    if (waiting === me) waiting = null;
    if (holder === me) { stop(); page.heard = Date.now(); queue(false); }
  });
}

function read() {
  if (stream) stream.close();
  const query = new URLSearchParams({ session: page.session, after: on.last() });
  stream = new EventSource(`/api/stream?${query}`);
  for (const kind of ['state', 'lines']) stream.addEventListener(kind, (event) => { pass({ kind, session: page.session, data: event.data }); take(kind, event.data); });
  stream.addEventListener('bye', disconnected);
  stream.onerror = disconnected;
  complete = true;
}

function pass(message) { if (shared) channel.postMessage(message); }

function take(kind, data) {
  heard();
  if (kind === 'state') { on.state(JSON.parse(data)); return; }
  const batch = JSON.parse(data), last = on.last();
  batch.lines = batch.lines.filter((line) => line[0] > last);
  if (batch.lines.length || batch.missed) on.lines(batch);
}

// No longer the reader; whoever waits for the lock gets it.
function stop() {
  if (stream) stream.close();
  stream = null;
  page.reads = false;
  holder = null;
  if (release) release();
  release = null;
}

if (shared) channel.onmessage = ({ data }) => {
  if (data.kind === 'ask') {
    if (page.reads && page.alive && data.session === page.session) channel.postMessage({ kind: 'so far', to: data.from, session: page.session, snapshot: page.snapshot, lines: on.since(data.after) });
    return;
  }
  if (page.reads || document.hidden) return;
  if (data.kind === 'bye') { disconnected(); return; }
  if (data.session !== page.session) { if (page.session) connect(); return; }
  if (data.kind === 'so far') {
    if (data.to !== tab) return;
    complete = true;
    take('lines', JSON.stringify({ missed: 0, lines: data.lines }));
    on.state(data.snapshot);
  } else if (data.kind === 'state') take('state', data.data);
  else if (complete) take('lines', data.data);
  else heard();
};

function heard() {
  page.heard = Date.now();
  if (page.alive) return;
  page.alive = true;
  document.body.classList.remove('stale');
  mark($('link'), 'pill live');
  const banner = $('gone');
  if (page.disconnectedSince) {
    page.disconnectedSince = 0;
    mark(banner, 'gone back');
    put(banner, 'Connected to the stack again.');
    setTimeout(() => { if (page.alive) banner.hidden = true; }, 2500);
  } else banner.hidden = true;
  on.live();
}

function disconnected() {
  if (page.reads) pass({ kind: 'bye' });
  stop();
  clearTimeout(retry);
  retry = setTimeout(connect, 1000);
  if (!page.disconnectedSince) page.disconnectedSince = Date.now();
  page.alive = false;
  document.body.classList.add('stale');
  mark($('link'), 'pill disconnected');
  put($('link'), 'disconnected');
  const banner = $('gone'), since = clock(page.disconnectedSince / 1000, false);
  mark(banner, 'gone');
  put(banner, page.signedOut
    ? 'This browser is not signed in to the stack. Open the link that this command prints: msctl open'
    : page.snapshot
    ? `Disconnected from the stack since ${since}. The page shows the last known state and keeps reconnecting.`
    : `No stack runs here. The page keeps reconnecting; start a stack with: msctl up`);
  banner.hidden = false;
  on.disconnected();
}

setInterval(() => {
  if (document.hidden) return;
  const quiet = Date.now() - page.heard;
  if (page.reads || !shared) { if (page.alive && quiet > QUIET_MS) disconnected(); }
  else if (page.session && quiet > QUIET_MS) { page.heard = Date.now(); queue(true); }
  else if (page.session && !complete) ask();
  if (page.alive && page.snapshot) put($('link'), `live · up ${uptime(page.snapshot.uptime_s)}`);
}, 1000);
document.addEventListener('visibilitychange', () => {
  // A hidden page keeps no connection, and does not wait for the lock.
  if (document.hidden) { if (waiting) waiting.abort(); stop(); clearTimeout(retry); } else connect();
});
