// Requests that change something, and what the page says of them.
import { page } from './state.js';
import { $, el } from './tools.js';

// Returns a problem, or null once it is done; `then` gets the answer.
export async function act(path, body = {}, then = () => {}) {
  const answer = await fetch(path, {
    method: 'POST', body: JSON.stringify(body), cache: 'no-store',
    headers: { 'Content-Type': 'application/json', 'X-Msctl-Token': page.token },
  }).catch(() => null);
  if (answer && answer.ok) { then(await answer.json().catch(() => ({}))); return null; }
  const problem = answer ? await answer.json().catch(() => ({ message: `the stack responded with status ${answer.status}` })) : { message: 'the stack does not respond' };
  return problem;
}

let toastTimer = 0;
export function showError(problem) {
  const toast = $('toast');
  toast.replaceChildren(el('p', {}, problem.message), ...(problem.hint ? [el('p', {}, problem.hint)] : []));
  toast.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { toast.hidden = true; }, 8000);
}
export function closeError() {
  const open = !$('toast').hidden;
  $('toast').hidden = true;
  return open;
}
$('toast').addEventListener('click', closeError);
export const announce = (text) => { $('announcement').textContent = text; };
