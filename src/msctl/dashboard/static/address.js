// The address of a view: its name, and what is filtered and open in it. Everything the page shows has one.
export function parse(hash) {
  const [path, search = ''] = hash.replace(/^#\/?/, '').split('?');
  return { view: path, query: new URLSearchParams(search) };
}

// Empty values are left out, so that a view as it is at first has a short address.
export function address(view, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== '' && value !== null && value !== undefined && value !== false) query.set(name, value === true ? '1' : value);
  const text = query.toString();
  return `#/${view}${text ? `?${text}` : ''}`;
}

// Filters replace the entry of the history; what is opened becomes a new one, which the back button closes.
export function remember(view, params, opened = false) {
  const to = address(view, params);
  if (to === (location.hash || '#/')) return;
  if (opened) history.pushState(null, '', to); else history.replaceState(null, '', to);
}
