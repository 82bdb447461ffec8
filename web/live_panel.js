// What the server is doing.
import { byId, element, svg } from './dom.js';
import { bytes, duration, figure, gauge, row } from './figures.js';
import { PolledBody } from './polled_body.js';
import { status } from './server.js';

const kPoints = 60;

export class LivePanel {
  #body = new PolledBody(byId('live-body'), async () => this.#shown(await status()));
  #last = null; // { at, made } of the status before
  #speeds = [];

  open() {
    this.#last = null;
    this.#speeds = [];
    this.#body.open();
  }

  close() {
    this.#body.close();
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
