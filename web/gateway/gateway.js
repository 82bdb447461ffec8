// The gateway's page: asks once a second while it is seen. Everything from devices is text and stays text.
import { byId, element, svg } from './dom.js';

const kEveryMs = 1000;
const kPoints = 120;
const curves = new Map(); // name of a signal: its newest values

async function ask(path, body) {
  const options = { headers: {} };
  const key = sessionStorage.getItem('key');
  if (key) options.headers.Authorization = `Bearer ${key}`;
  if (body) Object.assign(options, { method: 'POST', body: JSON.stringify(body) });
  const answer = await fetch(path, options);
  if (answer.status === 401) {
    const given = prompt('This gateway needs a key (hearth-…)');
    if (given) sessionStorage.setItem('key', given);
  }
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error?.message ?? `status ${answer.status}`);
  return content;
}

const time = (ms) => new Date(ms).toLocaleTimeString();

function table(heads, rows) {
  if (!rows.length) return element('p.note', {}, 'Nothing yet.');
  const cells = (kind, row) => row.map((cell) => element(kind, {}, cell ?? ''));
  return element(
    'table',
    {},
    element('thead', {}, element('tr', {}, ...cells('th', heads))),
    element('tbody', {}, ...rows.map((row) => element('tr', {}, ...cells('td', row)))),
  );
}

function curve(values) {
  const drawing = svg('svg', { viewBox: '0 0 100 30', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  const known = values.filter(Number.isFinite);
  if (known.length < 2) return drawing;
  const low = Math.min(...known);
  const high = Math.max(...known);
  const place = (value) => 28 - (26 * (value - low)) / (high - low || 1);
  const points = known.map((value, i) => `${((100 * i) / (known.length - 1)).toFixed(1)} ${place(value).toFixed(1)}`);
  drawing.append(svg('path', { d: `M${points.join('L')}` }));
  return drawing;
}

function signal(each) {
  const values = curves.get(each.name) ?? [];
  if (typeof each.value !== 'string' && each.quality === 'good') values.push(Number(each.value));
  curves.set(each.name, values.slice(-kPoints));
  const heard = each.time_ms > 0;
  const state = heard ? each.quality : 'not heard yet';
  const shown = !heard ? '–' : typeof each.value === 'number' ? each.value.toPrecision(4) : String(each.value);
  return element(
    'article.signal',
    { 'data-quality': each.quality },
    element('h3', { title: each.label }, each.name),
    element('p', {}, element('strong', {}, shown), ` ${each.unit} `, state === 'good' ? '' : element('em', {}, state)),
    curve(values),
  );
}

function pending(each) {
  const said = element('span', { role: 'status' });
  const confirm = async () => {
    try {
      await ask('v1/gateway/confirm', { token: each.token });
      said.textContent = 'Confirmed.';
    } catch (failure) {
      said.textContent = failure.message;
    }
  };
  return element(
    'p.pending',
    {},
    `${each.source} wants ${each.signal} = ${each.value} ${each.unit} (${each.seconds_left} s left) `,
    element('button.main-button', { type: 'button', onclick: confirm }, `Confirm ${each.signal} = ${each.value}`),
    said,
  );
}

let offered = ''; // what waits, so that a button is not replaced under a finger

function show(data) {
  const tokens = data.pending.map((each) => each.token).join();
  if (tokens !== offered || !tokens) {
    offered = tokens;
    byId('pending').replaceChildren(...(data.pending.length ? data.pending.map(pending) : [element('p.note', {}, 'Nothing.')]));
  }
  byId('signals').replaceChildren(...data.signals.map(signal));
  byId('decisions').replaceChildren(
    table(
      ['time', 'rule', 'chosen', 'by', 'outcome', 'reason'],
      data.decisions.slice(0, 30).map((d) => [time(d.time_ms), d.rule, d.chosen, d.by, d.outcome, d.reason + (d.why ? ` [${d.why}]` : '')]),
    ),
  );
  byId('events').replaceChildren(table(['time', 'event'], data.events.slice(0, 30).map((e) => [time(e.time_ms), e.text])));
  byId('audit').replaceChildren(
    table(['row', 'time', 'kind', 'what'], data.audit.map((a) => [String(a.number), time(a.time_ms), a.kind, a.what])),
  );
  const { state } = data;
  byId('adapters').replaceChildren(
    table(
      ['adapter', 'state', 'received', 'sent', 'refused', 'waiting'],
      state.adapters.map((a) => [a.name, a.state, a.received, a.sent, a.refused, a.waiting].map(String)),
    ),
    table(
      ['class', 'records', 'bytes', 'dropped'],
      state.queue.map((q) => [q.class, q.records, q.bytes, q.dropped].map(String)),
    ),
  );
  byId('state').textContent = `${state.signals} signals, ${state.adapters.filter((a) => a.connected).length} of ${state.adapters.length} adapters connected`;
}

async function turn() {
  try {
    const names = ['pending', 'decisions', 'events', 'audit?limit=30', `signals?limit=60&prefix=${encodeURIComponent(byId('prefix').value)}`];
    const [state, ...lists] = await Promise.all(['v1/gateway', ...names.map((name) => `v1/gateway/${name}`)].map((path) => ask(path)));
    const [waiting, decisions, events, audit, signals] = lists.map((list) => list.data);
    show({ state, pending: waiting, decisions, events, audit, signals });
    byId('away').hidden = true;
  } catch {
    byId('away').hidden = false;
    for (const button of document.querySelectorAll('#pending button')) button.disabled = true;
    offered = '';
  }
  setTimeout(() => (document.hidden ? document.addEventListener('visibilitychange', turn, { once: true }) : turn()), kEveryMs);
}

byId('say').addEventListener('submit', async (event) => {
  event.preventDefault();
  try {
    byId('answer').textContent = (await ask('v1/gateway/say', { text: byId('text').value })).answer;
  } catch (failure) {
    byId('answer').textContent = failure.message;
  }
});
turn();
