// The list of conversations at the left: open, rename, delete.
import { byId, element, icon } from './dom.js';

export class ConversationList {
  #list = byId('conversations');
  #wishes;

  // wishes: { open(id), rename(id, title), remove(id) }
  constructor(wishes) {
    this.#wishes = wishes;
  }

  draw(conversations, currentId) {
    if (this.#list.querySelector('input')) return; // a name is being written; the list is drawn after that
    const focused = this.#list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const rows = [];
    let day = '';
    for (const conversation of conversations) {
      const its = dayOf(conversation.updated);
      if (its !== day) rows.push(element('li.day', {}, (day = its)));
      rows.push(this.#row(conversation, conversation.id === currentId));
    }
    this.#list.replaceChildren(
      ...(rows.length ? rows : [element('li.nothing', {}, 'What you ask will be listed here.')]),
    );
    if (focused) this.#list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  #row(conversation, current) {
    const title = conversation.title || 'New conversation';
    const row = element(
      current ? 'li.current' : 'li',
      {},
      element(
        'button.open',
        {
          type: 'button',
          title,
          'aria-current': current ? 'true' : null,
          'data-key': `open-${conversation.id}`,
          onclick: () => this.#wishes.open(conversation.id),
        },
        title,
      ),
      this.#tool('edit', `Rename “${title}”`, () => this.#rename(row, conversation, title)),
      this.#tool('delete', `Delete “${title}”`, () => this.#wishes.remove(conversation.id)),
    );
    return row;
  }

  #tool(name, label, onclick) {
    return element('button.plain', { type: 'button', 'aria-label': label, title: label, onclick }, icon(name));
  }

  #rename(row, conversation, title) {
    const field = element('input', { 'aria-label': 'Name of the conversation', maxlength: 200 });
    let over = false;
    const end = async (take, byKey = true) => {
      if (over) return;
      over = true;
      const name = take && field.value.trim() ? field.value.trim() : title;
      field.remove();
      await this.#wishes.rename(conversation.id, name);
      if (byKey) this.#list.querySelector(`[data-key="open-${CSS.escape(conversation.id)}"]`)?.focus();
    };
    field.value = title;
    field.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.isComposing) end(true);
      if (event.key === 'Escape') {
        event.preventDefault();
        event.stopPropagation();
        end(false);
      }
    });
    field.addEventListener('blur', () => end(true, false));
    row.replaceChildren(field);
    field.focus();
    field.select();
  }
}

function dayOf(time) {
  const midnight = new Date().setHours(0, 0, 0, 0),
    day = 86400000;
  if (time >= midnight) return 'Today';
  if (time >= midnight - day) return 'Yesterday';
  return time >= midnight - 7 * day ? 'This week' : 'Earlier';
}
