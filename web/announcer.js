// What a screen reader says of an answer while it comes: whole sentences, gathered so that a fast model does not interrupt itself.
import { byId } from './dom.js';

const kPauseMs = 2000;

export class Announcer {
  #said = 0; // characters of the answer that were announced
  #last = 0; // when
  #region = byId('announcer');

  say(text) {
    this.#region.textContent = text;
  }

  begin() {
    this.#said = 0;
    this.#last = performance.now();
    this.say('Answering');
  }

  follow(answer) {
    if (performance.now() - this.#last < kPauseMs) return;
    const fresh = answer.slice(this.#said);
    const end = Math.max(...['. ', '! ', '? ', '.\n', '\n\n', '。'].map((mark) => fresh.lastIndexOf(mark) + 1));
    if (end > 0) this.#speak(answer, this.#said + end);
  }

  finish(answer, note) {
    this.#speak(answer, answer.length, note ?? 'End of the answer.');
  }

  #speak(answer, end, note = '') {
    const code = /```.*?(```|$)/gs;
    this.say(
      `${answer
        .slice(this.#said, end)
        .replace(code, ' Code. ')
        .replace(/[*_`#|]+/g, '')} ${note}`.trim(),
    );
    this.#said = end;
    this.#last = performance.now();
  }
}
