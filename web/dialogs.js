// Questions to the user that have to be answered first.
import { element } from './dom.js';

function shown(title, ...content) {
  return new Promise((resolve) => {
    const form = element('form', { method: 'dialog' }, element('h2', { id: 'dialog-title' }, title), ...content);
    const dialog = element(
      'dialog',
      {
        'aria-labelledby': 'dialog-title',
        onclose: () => {
          dialog.remove();
          resolve(dialog.returnValue === 'yes' ? form : null);
        },
      },
      form,
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

// Enter takes the first button that submits, so Cancel is none.
const buttons = (label, kind = '') =>
  element(
    'div.buttons',
    {},
    element(
      'button.side-button',
      { type: 'button', onclick: ({ target }) => target.closest('dialog').close('no') },
      'Cancel',
    ),
    element(`button.main-button${kind}`, { value: 'yes' }, label),
  );

export const confirmed = async (title, about, label) =>
  (await shown(title, element('p', {}, about), buttons(label, '.bad-button'))) !== null;

export const told = (title, about) =>
  shown(
    title,
    element('p', {}, about),
    element('div.buttons', {}, element('button.main-button', { value: 'yes' }, 'Close')),
  );

// { key, keep }, or null if the user would rather not.
export async function askedKey(wasWrong) {
  const key = element('input', {
    id: 'key',
    type: 'password',
    autocomplete: 'current-password',
    required: true,
    'aria-describedby': 'key-about',
  });
  const keep = element('input', { id: 'keep', type: 'checkbox' });
  const form = await shown(
    wasWrong ? 'The server does not know this key' : 'This server asks for a key',
    element('p', { id: 'key-about' }, 'Whoever runs the server makes one with “hearth key add NAME”.'),
    element('div.field', {}, element('label', { for: 'key' }, 'Key'), key),
    element('label.check', { for: 'keep' }, keep, 'Remember it in this browser'),
    buttons('Use it'),
  );
  return form && key.value ? { key: key.value.trim(), keep: keep.checked } : null;
}
