// The body of a panel that is drawn anew while the panel is open and the page is seen.
import { element } from './dom.js';

const kEveryMs = 1000;

export class PolledBody {
  #body;
  #shown;
  #timer = 0;
  #turn = 0; // of the loop that runs; older ones end
  #open = false;

  // `shown` asks the server and resolves to elements.
  constructor(body, shown) {
    this.#body = body;
    this.#shown = shown;
    document.addEventListener('visibilitychange', () => {
      if (this.#open) this.open();
    });
  }

  open() {
    this.close();
    this.#open = true;
    this.#next();
  }

  close() {
    this.#open = false;
    ++this.#turn;
    clearTimeout(this.#timer);
  }

  async #next() {
    const turn = this.#turn;
    let shown;
    try {
      shown = await this.#shown();
    } catch (failure) {
      shown = [element('p', {}, failure.message), element('p.note', {}, failure.advice ?? '')];
    }
    if (turn !== this.#turn) return;
    const { scrollTop } = this.#body;
    this.#body.replaceChildren(...shown);
    this.#body.scrollTop = scrollTop;
    if (!document.hidden) this.#timer = setTimeout(() => this.#next(), kEveryMs);
  }
}
