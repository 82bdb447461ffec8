// The parts at the sides: beside the middle where there is room, over it where there is none. Over it they keep the keyboard
// until Escape or their button closes them.
import { byId } from './dom.js';

const kParts = [
  { name: 'sidebar', opener: 'sidebar-open', over: '(max-width: 820px)', always: true },
  { name: 'settings', opener: 'settings-open', over: '(max-width: 1180px)' },
  { name: 'site', opener: 'site-open', over: '(max-width: 1180px)' },
  { name: 'live', opener: 'live-open', over: '(max-width: 1180px)' },
];

export class SidePanels {
  #open = new Set();
  #toggled;

  // `toggled(name, open)` is called after a part was opened or closed.
  constructor(toggled) {
    this.#toggled = toggled;
    for (const part of kParts) {
      part.root = byId(part.name);
      part.button = byId(part.opener);
      part.button.addEventListener('click', () => (this.#open.has(part) ? this.#close(part) : this.#show(part)));
      matchMedia(part.over).addEventListener('change', () => this.#apply());
      part.root.querySelector('[data-close], #sidebar-close').addEventListener('click', () => this.#close(part));
    }
    byId('veil').addEventListener('click', () => this.closeOver());
    document.addEventListener(
      'keydown',
      (event) => {
        if (event.key === 'Escape' && !event.defaultPrevented && this.#over().length) {
          event.preventDefault();
          this.closeOver();
        }
      },
      true,
    );
    this.#apply();
  }

  // Those that cover the middle.
  closeOver() {
    for (const part of this.#over()) this.#close(part);
  }

  #over() {
    return [...this.#open].filter((part) => matchMedia(part.over).matches);
  }

  #show(part) {
    for (const other of [...this.#open]) if (!other.always || matchMedia(other.over).matches) this.#close(other);
    this.#open.add(part);
    this.#apply();
    this.#toggled(part.name, true);
    if (matchMedia(part.over).matches) part.root.querySelector('[data-close], #sidebar-close').focus();
  }

  #close(part) {
    const focused = part.root.contains(document.activeElement) || this.#over().includes(part);
    this.#open.delete(part);
    this.#apply();
    this.#toggled(part.name, false);
    if (focused) part.button.focus();
  }

  #apply() {
    const covering = this.#over();
    for (const part of kParts) {
      const open = this.#open.has(part);
      part.button.setAttribute('aria-expanded', String(open));
      if (part.always) part.root.classList.toggle('shown', open);
      else part.root.hidden = !open;
      part.root.inert = covering.length > 0 && !covering.includes(part);
    }
    for (const name of ['main', 'skip']) byId(name).inert = covering.length > 0;
    byId('veil').hidden = covering.length === 0;
  }
}
