// Model, system prompt and sampling. What is left empty is not sent, so that the server's and the model's own defaults hold.
import { byId, element } from './dom.js';
import { remember, remembered } from './preferences.js';
import { hasKey, useKey } from './server.js';

const kNumbers = [
  { name: 'temperature', label: 'Temperature', min: 0, max: 2, step: 0.05, about: '0: always the likeliest' },
  { name: 'max_tokens', label: 'Most tokens', min: 1, max: 1000000, step: 1, about: 'of an answer' },
  { name: 'top_p', label: 'Top p', min: 0, max: 1, step: 0.01, about: 'share of likely tokens' },
  { name: 'top_k', label: 'Top k', min: 0, max: 1000000, step: 1, about: 'count of likely tokens' },
  {
    name: 'seed',
    label: 'Seed',
    min: 0,
    max: 2147483647,
    step: 1,
    placeholder: 'random',
    about: 'same seed, same text',
  },
];

export class SettingsPanel {
  #values = remembered('settings', {});
  #model = byId('model');

  // `keyChanged` is called when the key was changed or forgotten here.
  constructor(keyChanged) {
    this.#model.addEventListener('change', () => this.#keep('model', this.#model.value));
    const form = byId('settings-form');
    form.addEventListener('submit', (event) => event.preventDefault());
    form.append(
      this.#system(),
      element(
        'fieldset',
        {},
        element('legend', { class: 'hidden' }, 'Sampling'),
        element('div.pairs', {}, ...kNumbers.map((number) => this.#number(number))),
      ),
      this.#defaults(form),
      this.#key(keyChanged),
    );
  }

  get model() {
    return this.#model.value;
  }

  showModels({ names, usual }) {
    this.#model.replaceChildren(
      ...(names.length ? names : ['']).map((name) => element('option', { value: name }, name || 'no model yet')),
    );
    const wanted = names.includes(this.#values.model) ? this.#values.model : usual;
    if (wanted) this.#model.value = wanted;
    this.#model.disabled = names.length === 0;
  }

  // For a request: the system prompt as a message, and the numbers that were set.
  get system() {
    return (this.#values.system ?? '').trim();
  }
  get sampling() {
    return Object.fromEntries(
      kNumbers.filter(({ name }) => Number.isFinite(this.#values[name])).map(({ name }) => [name, this.#values[name]]),
    );
  }

  #keep(name, value) {
    if (value === null || value === '') delete this.#values[name];
    else this.#values[name] = value;
    remember('settings', this.#values);
  }

  #system() {
    const text = element('textarea', {
      id: 'system',
      rows: 5,
      placeholder: 'You are a helpful assistant.',
      oninput: () => this.#keep('system', text.value),
    });
    text.value = this.#values.system ?? '';
    return element(
      'div.field',
      {},
      element('label', { for: 'system' }, 'System prompt'),
      text,
      element('span.about', {}, 'Told to the model before everything else.'),
    );
  }

  #number({ name, label, min, max, step, placeholder = 'default', about }) {
    const field = element('input', {
      id: name,
      type: 'number',
      min,
      max,
      step: Number.isInteger(step) ? step : 'any',
      inputmode: Number.isInteger(step) ? 'numeric' : 'decimal',
      placeholder,
      'aria-describedby': `${name}-about`,
      oninput: () => {
        if (field.validity.valid) this.#keep(name, field.value === '' ? null : field.valueAsNumber);
      },
    });
    field.value = this.#values[name] ?? '';
    return element(
      'div.field',
      {},
      element('label', { for: name }, label),
      field,
      element('span.about', { id: `${name}-about` }, about),
    );
  }

  #defaults(form) {
    return element(
      'button.side-button',
      {
        type: 'button',
        onclick: () => {
          this.#values = { model: this.#values.model };
          remember('settings', this.#values);
          form.reset();
          byId('system').value = '';
          for (const { name } of kNumbers) byId(name).value = '';
        },
      },
      'Back to the defaults',
    );
  }

  #key(keyChanged) {
    const forget = element(
      'button.side-button',
      {
        type: 'button',
        onclick: () => {
          useKey('', false);
          keyChanged();
        },
      },
      'Forget the key of this server',
    );
    this.keyShown = () => {
      forget.hidden = !hasKey();
    };
    this.keyShown();
    return forget;
  }
}
