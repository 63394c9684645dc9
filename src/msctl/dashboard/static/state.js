// What the whole page knows, and which states are good.
export const page = {
  snapshot: null, session: null, token: '', can: {}, view: 'overview',
  alive: false, reads: false, heard: 0, disconnectedSince: 0, states: new Map(), busy: new Map(),
};
export const GOOD = new Set(['ready', 'exited']);
export const BAD = new Set(['unhealthy', 'fatal', 'skipped']);
export const ACTIVE = new Set(['waiting', 'starting', 'running', 'ready', 'unhealthy', 'backoff', 'stopping']);
export const health = (state) => GOOD.has(state) ? 'good' : BAD.has(state) ? 'bad' : state === 'stopped' ? 'off' : 'warn';
// Up, but the gateway sends no requests to an instance because its breaker is not closed.
export const breakerOpen = (service) => GOOD.has(service.state) && service.instances.some((i) => i.target && i.target.breaker !== 'closed');
export const condition = (service) => breakerOpen(service) ? 'warn' : health(service.state);
