// What a page of another origin can try. The answer maps each attempt to what came of it.
const to = args[0], verb = to + 'api/services/users/stop', tried = {};
const json = { 'Content-Type': 'application/json', 'X-Msctl-Token': 'x' };

async function attempt(name, work) {
  try { tried[name] = await work(); } catch { tried[name] = 'failed'; }
}

function event(make, good, bad, word) {
  return new Promise((done) => {
    const source = make();
    source[good] = () => { if (source.close) source.close(); done(word); };
    source[bad] = () => { if (source.close) source.close(); done('failed'); };
  });
}

await attempt('read session', async () => (await (await fetch(to + 'api/session')).json()).token);
await attempt('blind read', async () => (await fetch(to + 'api/session', { mode: 'no-cors' })).type);
await attempt('post json', async () => (await fetch(verb, { method: 'POST', body: '{}', headers: json })).status);
await attempt('blind post', async () => {
  await fetch(verb, { method: 'POST', body: '{}', mode: 'no-cors' });
  return 'sent';
});
await attempt('beacon', async () => navigator.sendBeacon(verb, '{}') && 'sent');
await attempt('events', () => event(() => new EventSource(to + 'api/stream'), 'onopen', 'onerror', 'open'));
await attempt('script', () => event(() => {
  const script = document.createElement('script');
  script.src = to + 'static/page.js';
  document.head.append(script);
  return script;
}, 'onload', 'onerror', 'loaded'));
await attempt('frame', () => new Promise((done) => {
  const frame = document.querySelector('iframe');
  frame.onload = () => {
    try { done(frame.contentDocument ? 'blank' : 'closed'); } catch { done('closed'); }
  };
  frame.src = to;
}));
return tried;
