// Where the question is written.
import { byId } from './dom.js';

export class Composer {
  #text = byId('question');
  #send = byId('send');
  #stop = byId('stop');

  // wishes: { ask(text) -> true if it was taken, stop() }
  constructor(wishes) {
    const submit = () => {
      const text = this.#text.value.trim();
      if (!text || !this.#stop.hidden || !wishes.ask(text)) return;
      this.fill('');
    };
    byId('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      submit();
    });
    this.#text.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      submit();
    });
    this.#text.addEventListener('input', () => this.#fit());
    this.#stop.addEventListener('click', () => {
      wishes.stop();
      this.focus();
    });
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && !event.defaultPrevented && !this.#stop.hidden) wishes.stop();
    });
  }

  set busy(busy) {
    const focused = document.activeElement === this.#stop || document.activeElement === this.#send;
    this.#send.hidden = busy;
    this.#stop.hidden = !busy;
    if (focused) this.focus();
  }

  fill(text) {
    this.#text.value = text;
    this.#fit();
  }

  focus() {
    this.#text.focus();
  }

  #fit() {
    this.#text.style.height = 'auto';
    this.#text.style.height = `${this.#text.scrollHeight + 2}px`;
  }
}
