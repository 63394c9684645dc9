// The stream of server-sent events, and the banner that says whether it is connected.
import { page } from './state.js';
import { $, clock, mark, put, uptime } from './tools.js';

const QUIET_MS = 6000;
let stream = null, retry = 0, on = null;

// `handlers`: state(snapshot), lines(batch), newStack(), last() (the last line seen), connected(session) and disconnected().
export function start(handlers) { on = handlers; connect(); }

async function connect() {
  clearTimeout(retry);
  if (stream) stream.close();
  stream = null;
  if (document.hidden) return;
  let session;
  try {
    page.signedOut = false;
    const answer = await fetch('/api/session', { cache: 'no-store' });
    page.signedOut = answer.status === 401;
    if (!answer.ok) throw new Error(String(answer.status));
    session = await answer.json();
  } catch { disconnected(); return; }
  if (page.session && page.session !== session.session) on.newStack();
  const known = page.session === session.session;
  Object.assign(page, { session: session.session, token: session.token, can: session });
  on.connected(session);
  const query = new URLSearchParams({ session: page.session, after: known ? on.last() : 0 });
  stream = new EventSource(`/api/stream?${query}`);
  stream.addEventListener('state', (event) => { heard(); on.state(JSON.parse(event.data)); });
  stream.addEventListener('lines', (event) => { heard(); on.lines(JSON.parse(event.data)); });
  stream.addEventListener('bye', disconnected);
  stream.onerror = disconnected;
  page.heard = Date.now();
}

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
}

function disconnected() {
  if (stream) stream.close();
  stream = null;
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
  if (page.alive && Date.now() - page.heard > QUIET_MS) disconnected();
  if (page.alive && page.snapshot) put($('link'), `live · up ${uptime(page.snapshot.uptime_s)}`);
}, 1000);
document.addEventListener('visibilitychange', () => {
  // A hidden page keeps no connection: browsers allow only a few per host.
  if (document.hidden) { if (stream) stream.close(); stream = null; clearTimeout(retry); } else connect();
});
