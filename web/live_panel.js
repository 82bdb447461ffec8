// What the server is doing, while the panel is open and the page is seen.
import { byId, element, svg } from './dom.js';
import { status } from './server.js';

const kEveryMs = 1000;
const kPoints = 60;

export class LivePanel {
  #body = byId('live-body');
  #timer = 0;
  #turn = 0; // of the loop that runs; older ones end
  #last = null; // { at, made } of the status before
  #speeds = [];

  #open = false;

  constructor() {
    document.addEventListener('visibilitychange', () => {
      if (this.#open) this.open();
    });
  }

  open() {
    this.close();
    this.#open = true;
    this.#last = null;
    this.#speeds = [];
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
      shown = this.#shown(await status());
    } catch (failure) {
      shown = [element('p', {}, failure.message), element('p.note', {}, failure.advice ?? '')];
    }
    if (turn !== this.#turn) return;
    const { scrollTop } = this.#body;
    this.#body.replaceChildren(...shown);
    this.#body.scrollTop = scrollTop;
    if (!document.hidden) this.#timer = setTimeout(() => this.#next(), kEveryMs);
  }

  #shown(now) {
    const sum = (part) => now.models.reduce((total, model) => total + (part(model) ?? 0), 0);
    const speed = this.#speed(sum((model) => model.tokens?.generated));
    const asked = sum((model) => model.tokens?.prompt),
      cached = sum((model) => model.tokens?.cached);
    return [
      element(
        'dl.figure-pairs',
        {},
        figure(
          'running',
          sum((model) => model.requests?.running),
        ),
        figure(
          'waiting',
          sum((model) => model.requests?.waiting),
        ),
        figure(
          'set aside',
          sum((model) => model.requests?.parked),
        ),
      ),
      element(
        'section.card',
        { 'aria-label': 'Speed' },
        row('Tokens per second', speed.toFixed(speed < 10 ? 1 : 0)),
        curve(this.#speeds),
      ),
      element(
        'section.card',
        { 'aria-label': 'Memory' },
        gauge('Memory of the program', now.resident_bytes, 0, bytes),
        now.memory_bytes_max > 0 &&
          gauge(
            'Memory of models',
            sum((model) => model.memory_bytes),
            now.memory_bytes_max,
            bytes,
          ),
        row('Prompts found in the cache', asked ? `${Math.round((100 * cached) / asked)} %` : '–'),
      ),
      ...now.models.map(modelCard),
      now.models.length === 0 && element('p.note', {}, 'No model is in memory. One is loaded when it is first asked.'),
      element('p.note', {}, `Version ${now.version}, up for ${duration(now.uptime_seconds)}`),
    ].filter(Boolean);
  }

  #speed(made) {
    const at = performance.now();
    const speed = this.#last && made >= this.#last.made ? (1000 * (made - this.#last.made)) / (at - this.#last.at) : 0;
    if (this.#last) this.#speeds = [...this.#speeds, speed].slice(-kPoints);
    this.#last = { at, made };
    return speed;
  }
}

function modelCard(model) {
  const left = model.expires_in_seconds;
  return element(
    'section.card',
    { 'aria-label': `Model ${model.name}` },
    element('h3', {}, model.name),
    model.kv &&
      gauge('Context in use', model.kv.positions_used, model.kv.positions_max, (value) => value.toLocaleString('en')),
    row('Memory', bytes(model.memory_bytes)),
    model.kv && row('of that for contexts', bytes(model.kv.positions_max * model.kv.position_bytes)),
    model.tokens && row('Tokens made', model.tokens.generated.toLocaleString('en')),
    row(
      'Leaves memory',
      left == null ? 'when others need it' : model.holders > 0 ? 'not while in use' : `in ${duration(left)}`,
    ),
  );
}

const figure = (label, value) => element('div.figure', {}, element('dt', {}, label), element('dd', {}, String(value)));
const row = (label, value) => element('div.row', {}, element('span', {}, label), element('b', {}, value));

function gauge(label, used, most, written) {
  const bar = element('i');
  bar.style.width = `${most > 0 ? Math.min(100, (100 * used) / most) : 0}%`;
  return element(
    'div',
    {},
    row(label, most > 0 ? `${written(used)} of ${written(most)}` : written(used)),
    most > 0 &&
      element(
        'div.gauge',
        {
          role: 'meter',
          'aria-label': label,
          'aria-valuemin': 0,
          'aria-valuemax': most,
          'aria-valuenow': used,
          'aria-valuetext': `${written(used)} of ${written(most)}`,
        },
        bar,
      ),
  );
}

function curve(values) {
  const top = Math.max(10, ...values);
  const points = values.map(
    (value, at) =>
      `${((100 * (at + kPoints - values.length)) / (kPoints - 1)).toFixed(2)} ${(50 - (48 * value) / top).toFixed(2)}`,
  );
  const drawing = svg('svg', {
    class: 'curve',
    viewBox: '0 0 100 52',
    preserveAspectRatio: 'none',
    'aria-hidden': 'true',
  });
  drawing.append(svg('path', { class: 'base', d: 'M0 51L100 51' }));
  if (points.length > 1) {
    drawing.append(
      svg('path', { class: 'area', d: `M${points[0].split(' ')[0]} 51L${points.join('L')}L100 51Z` }),
      svg('path', { d: `M${points.join('L')}` }),
    );
  }
  return drawing;
}

function bytes(count) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let at = 0;
  for (; count >= 1000 && at < units.length - 1; ++at) count /= 1000;
  return `${count < 10 && at > 0 ? count.toFixed(1) : Math.round(count)} ${units[at]}`;
}

function duration(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} days`;
}
