// The open conversation: asks, follows the answer, keeps it. Answers to others go on meanwhile.
import { newConversation } from './conversation_store.js';
import { chat } from './server.js';

const kTitleLength = 60;
const kKeepEveryMs = 1000;

export class Chat {
  #parts;
  #running = new Map(); // id of a conversation -> { conversation, answer, controller } of its answer on the way
  #failure = null; // of the last question of the open conversation

  // parts: { store, settings, messages, composer, announcer }; `changed()` after title or list changed, `failed(failure)`.
  constructor(parts, { changed, failed }) {
    this.#parts = parts;
    this.changed = changed;
    this.failed = failed;
    this.conversation = newConversation();
  }

  get busy() {
    return this.#running.has(this.conversation.id);
  }

  open(conversation) {
    this.#failure = null;
    this.conversation = this.#running.get(conversation.id)?.conversation ?? conversation;
    this.#parts.composer.busy = this.busy;
    this.#draw();
    this.#parts.messages.toEnd();
  }

  // False if an answer is on its way.
  ask(text) {
    if (this.busy) return false;
    const { conversation } = this;
    conversation.messages.push({ role: 'user', content: text });
    conversation.title ||= titleOf(text);
    this.#parts.messages.toEnd();
    this.#answer();
    return true;
  }

  // The last answer anew, or one for a question that has none.
  again() {
    if (this.busy) return;
    const { messages } = this.conversation;
    if (messages.at(-1)?.role === 'assistant') messages.pop();
    if (messages.length) this.#answer();
  }

  // If the last question failed.
  retry() {
    if (this.#failure) this.again();
  }

  edit(text) {
    if (this.busy) return;
    const { messages } = this.conversation;
    messages.length = messages.findLastIndex((message) => message.role === 'user');
    this.ask(text);
  }

  stop() {
    this.#running.get(this.conversation.id)?.controller.abort();
  }

  // Ends the answer of a conversation that is being deleted, so that it is not kept again.
  forget(id) {
    this.#running.get(id)?.controller.abort();
    this.#running.delete(id);
  }

  async #answer() {
    const { settings, composer, announcer } = this.#parts;
    const { conversation } = this;
    const request = { model: settings.model, messages: this.#history(), ...settings.sampling };
    const answer = { role: 'assistant', content: '', note: 'This answer was cut off.' }; // until it is not
    const running = { conversation, answer, controller: new AbortController() };
    this.#running.set(conversation.id, running);
    this.#failure = null;
    conversation.messages.push(answer);
    composer.busy = true;
    this.#draw();
    announcer.begin();
    this.#keep(conversation);
    let failure = null;
    try {
      await this.#follow(running, request);
    } catch (error) {
      if (running.controller.signal.aborted) answer.note = 'Stopped.';
      else failure = error;
    }
    if (this.#running.get(conversation.id) === running) this.#end(running, failure);
  }

  async #follow({ conversation, answer, controller }, request) {
    const { messages, announcer } = this.#parts;
    const shown = () => this.conversation.id === conversation.id;
    let drawing = false,
      kept = performance.now();
    for await (const { text = '', reasoning = '', finish, figures } of chat(request, controller.signal)) {
      if (finish) Object.assign(answer, { note: noteOf(finish, answer), figures: figures ?? undefined });
      answer.content += text;
      if (reasoning) answer.reasoning = (answer.reasoning ?? '') + reasoning;
      if (!drawing && shown()) {
        drawing = true;
        requestAnimationFrame(() => {
          drawing = false;
          if (this.#running.get(conversation.id)?.answer === answer && shown()) messages.grow(answer);
        });
      }
      if (shown()) announcer.follow(answer.content);
      if (performance.now() - kept > kKeepEveryMs) {
        kept = performance.now();
        this.#keep(conversation);
      }
    }
  }

  #end({ conversation, answer }, failure) {
    const { composer, announcer } = this.#parts;
    this.#running.delete(conversation.id);
    if (failure && !answer.content) conversation.messages.splice(conversation.messages.indexOf(answer), 1);
    else if (failure) answer.note = `${failure.message} This is what came until then.`;
    this.#keep(conversation);
    if (this.conversation.id === conversation.id) {
      if (!answer.content) this.#failure = failure;
      composer.busy = false;
      this.#draw();
      announcer.finish(answer.content, failure ? failure.message : answer.note);
    }
    if (failure) this.failed(failure);
  }

  #history() {
    const { system } = this.#parts.settings;
    return [
      ...(system ? [{ role: 'system', content: system }] : []),
      ...this.conversation.messages
        .filter(({ content }) => content !== '')
        .map(({ role, content }) => ({ role, content })),
    ];
  }

  #keep(conversation) {
    conversation.updated = Date.now();
    this.#parts.store.put(conversation).catch((error) => this.failed(error));
    this.changed();
  }

  #draw() {
    const { messages } = this.conversation;
    const unanswered =
      !this.busy && messages.at(-1)?.role === 'user' ? { message: 'This question has no answer.' } : null;
    this.#parts.messages.draw(messages, { busy: this.busy, failure: this.#failure ?? unanswered });
  }
}

function noteOf(finish, answer) {
  if (finish === 'length') return 'The answer reached its greatest length. The settings can allow more tokens.';
  return answer.content || answer.reasoning ? undefined : 'The model had nothing to say.';
}

function titleOf(question) {
  const line = question.split('\n')[0].trim();
  return line.length <= kTitleLength ? line : `${line.slice(0, kTitleLength).replace(/\s+\S*$/, '')}…`;
}
