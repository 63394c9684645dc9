// Forms in a dialog: a question before something is lost, and what an action needs to know.
import { act } from './actions.js';
import { $, el } from './tools.js';

// fields: [{ name, label, kind: text | number | check | select | area | pairs, value, options, required, list, hint }]
// Resolves to whether it was done; `send(values)` returns a problem or null, which keeps the dialog open.
export function ask({ title, text = '', fields = [], button, danger = false, send }) {
  const dialog = $('dialog'), back = document.activeElement;
  return new Promise((done) => {
    const problem = el('p', { className: 'problem', role: 'alert', hidden: true });
    const submit = el('button', { type: 'submit', className: danger ? 'primary danger' : 'primary' }, button);
    const form = el('form', { className: 'form', method: 'dialog' },
      el('h2', { id: 'dialog-title' }, title), ...(text ? [el('p', {}, text)] : []),
      ...fields.map(field), problem,
      el('div', { className: 'tools end' }, el('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'), submit));
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      let failed;
      submit.disabled = true;
      try { failed = await send(values(form, fields)); } catch (error) { failed = { message: error.message }; }
      submit.disabled = false;
      if (!failed) { dialog.returnValue = 'done'; dialog.close('done'); return; }
      problem.hidden = false;
      problem.textContent = [failed.message, failed.hint].filter(Boolean).join(' – ');
    });
    dialog.returnValue = '';
    dialog.replaceChildren(form);
    dialog.onclose = () => { dialog.replaceChildren(); if (back && back.isConnected) back.focus(); done(dialog.returnValue === 'done'); };
    dialog.showModal();
    (form.querySelector('input, select, textarea') || submit).focus();
  });
}

// An action without fields, after a question.
export const confirm = (title, text, button, path, body) => ask({ title, text, button, danger: true, send: () => act(path, body) });

export function field({ name, label, kind = 'text', value = '', options = [], required = false, list = null, hint = '' }) {
  const common = { name, required, autocomplete: 'off', spellcheck: false, placeholder: hint };
  if (kind === 'check') return el('label', { className: 'check' }, el('input', { type: 'checkbox', name, checked: Boolean(value) }), ` ${label}`);
  const input = kind === 'select' ? el('select', { name }, ...options.map((o) => el('option', { value: o, selected: o === value }, o || 'the default')))
    : kind === 'area' || kind === 'pairs' ? el('textarea', { ...common, rows: kind === 'pairs' ? 2 : 4, value })
    : el('input', { ...common, type: kind, value, maxLength: 255, min: kind === 'number' ? 0 : null });
  if (list) input.setAttribute('list', list);
  return el('label', { className: kind === 'area' || kind === 'pairs' ? 'field stack' : 'field' }, el('span', {}, label), input);
}

export function values(form, fields) {
  return Object.fromEntries(fields.map(({ name, kind }) => {
    const input = form.elements[name];
    return [name, kind === 'check' ? input.checked : kind === 'pairs' ? pairs(input.value) : kind === 'number' ? (input.value === '' ? null : Number(input.value)) : input.value];
  }));
}

// Lines of NAME=VALUE; whole numbers, true and false are what they look like.
export function pairs(text) {
  const found = {};
  for (const line of text.split('\n').map((l) => l.trim()).filter(Boolean)) {
    const at = line.indexOf('=');
    if (at < 1) throw new Error(`“${line}” is not of the form name=value`);
    const value = line.slice(at + 1).trim();
    found[line.slice(0, at).trim()] = value === 'true' ? true : value === 'false' ? false : /^-?\d{1,15}$/.test(value) ? Number(value) : value;
  }
  return found;
}
