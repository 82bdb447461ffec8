// The messages of the open conversation. Draws and reports wishes; decides nothing.
import { byId, copyButton, element, icon } from './dom.js';
import { MarkdownView } from './markdown_view.js';

export class MessageList {
  #list = byId('messages');
  #scroll = byId('scroll');
  #toEnd = byId('to-end');
  #wishes;
  #follows = true;
  #lastTop = 0;
  #views = [];

  // wishes: { again(), edit(text) }
  constructor(wishes) {
    this.#wishes = wishes;
    this.#scroll.addEventListener('scroll', () => this.#notice());
    this.#toEnd.addEventListener('click', () => {
      this.toEnd();
      byId('question').focus();
    });
    new ResizeObserver(() => {
      if (this.#follows) this.toEnd();
    }).observe(this.#scroll);
  }

  // `failure`: of the last question. `busy`: an answer is on its way.
  draw(messages, { busy = false, failure = null } = {}) {
    const lastQuestion = messages.findLastIndex((message) => message.role === 'user');
    this.#views = messages.map((message, at) => {
      const own = { again: !busy && at === messages.length - 1, edit: !busy && at === lastQuestion };
      return message.role === 'user'
        ? this.#question(message, own)
        : new AnswerView(message, own.again && this.#wishes.again, busy && at === messages.length - 1);
    });
    this.#list.replaceChildren(...this.#views.map((view) => view.root));
    if (failure) this.#list.append(this.#failed(failure));
    byId('welcome').hidden = messages.length > 0;
    if (this.#follows) this.toEnd();
  }

  // The last answer has grown.
  grow(message) {
    this.#views.at(-1).show(message, true);
    if (this.#follows) this.toEnd();
  }

  toEnd() {
    this.#follows = true;
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#toEnd.hidden = true;
  }

  #notice() {
    const left = this.#scroll.scrollHeight - this.#scroll.scrollTop - this.#scroll.clientHeight;
    if (left < 40) this.#follows = true;
    else if (this.#scroll.scrollTop < this.#lastTop) this.#follows = false; // only who scrolls up has left the end
    this.#lastTop = this.#scroll.scrollTop;
    this.#toEnd.hidden = left < 200;
  }

  #question(message, { edit }) {
    const root = element('article.message.user', { 'aria-label': 'You' }, element('div.said', {}, message.content));
    if (!edit) return { root };
    const button = element(
      'button.small',
      { type: 'button', 'aria-label': 'Edit the question', onclick: () => this.#edit(root, message) },
      icon('edit'),
      'Edit',
    );
    root.append(element('div.actions', {}, button));
    return { root };
  }

  #edit(root, message) {
    const before = [...root.children];
    const text = element('textarea', {
      rows: Math.min(message.content.split('\n').length + 1, 10),
      'aria-label': 'The question',
    });
    text.value = message.content;
    const close = () => {
      root.classList.remove('editing');
      root.replaceChildren(...before);
      root.querySelector('button').focus();
    };
    const form = element(
      'form.edit-form',
      {
        onsubmit: (event) => {
          event.preventDefault();
          if (text.value.trim()) this.#wishes.edit(text.value.trim());
        },
        onkeydown: (event) => {
          if (event.key === 'Escape') {
            event.stopPropagation();
            close();
          }
          if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.target === text) {
            event.preventDefault();
            form.requestSubmit();
          }
        },
      },
      text,
      element(
        'div.buttons',
        {},
        element('button.side-button', { type: 'button', onclick: close }, 'Cancel'),
        element('button.main-button', { type: 'submit' }, 'Ask again'),
      ),
    );
    root.classList.add('editing');
    root.replaceChildren(form);
    text.focus();
    text.setSelectionRange(text.value.length, text.value.length);
  }

  #failed(failure) {
    return element(
      'div.failed',
      { role: 'alert' },
      element('strong', {}, failure.message),
      element('span', {}, failure.advice ?? ''),
      element('button.side-button', { type: 'button', onclick: () => this.#wishes.again() }, 'Try again'),
    );
  }
}

class AnswerView {
  #body = new MarkdownView();
  #thought = new MarkdownView();
  #summary = element('summary');
  #reasoning;
  #waiting = element(
    'span.waiting',
    { role: 'img', 'aria-label': 'Waiting for the answer' },
    element('i'),
    element('i'),
    element('i'),
  );

  constructor(message, again, busy) {
    this.#reasoning = element('details.reasoning', {}, this.#summary, element('div', {}, this.#thought.root));
    this.root = element(
      'article.message.assistant',
      { 'aria-label': 'Answer' },
      this.#reasoning,
      this.#body.root,
      this.#waiting,
    );
    this.show(message, busy);
    if (!busy) this.#end(message, again);
  }

  show(message, busy) {
    const thinking = busy && !message.content;
    this.#reasoning.hidden = !message.reasoning;
    this.#summary.textContent = thinking ? 'Thinking…' : 'Thoughts';
    this.#thought.show(message.reasoning ?? '');
    this.#body.show(message.content);
    this.#waiting.hidden = !thinking;
  }

  #end(message, again) {
    const { figures } = message;
    if (message.note) this.root.append(element('p.note', {}, message.note));
    this.root.append(
      element(
        'div.actions',
        {},
        message.content && copyButton(() => message.content),
        again &&
          element(
            'button.small',
            { type: 'button', 'aria-label': 'Answer again', onclick: again },
            icon('again'),
            'Again',
          ),
        figures?.tokens &&
          element(
            'span.figures',
            { title: `${figures.prompt ?? 0} tokens of the prompt, ${figures.cached ?? 0} of them cached` },
            `${figures.tokens} tokens${figures.perSecond ? ` · ${figures.perSecond.toFixed(1)} per second` : ''}`,
          ),
      ),
    );
  }
}
