// The machines of the site, and who runs which layers of this server's models.
import { byId, element } from './dom.js';
import { bytes, duration, figure, row } from './figures.js';
import { PolledBody } from './polled_body.js';
import { site } from './server.js';

const kShownMax = 100; // machines
const kCounts = [
  { name: 'losses', label: 'machines lost', said: 'a machine was lost' },
  { name: 'moves', label: 'moves', said: 'layers moved' },
  { name: 'resumed', label: 'kept all state', said: 'no state was lost' },
];

export class SitePanel {
  #button = byId('site-open');
  #body = new PolledBody(byId('site-body'), async () => this.#shown(await site()));
  #say;
  #open = false;
  #refused = false;
  #links = new Map(); // by model and address: { at, sent, received } of the poll before
  #chains = new Map(); // by model: the chain of the poll before, and { said, names, at } of its last change

  // `say` tells a change to those who do not see it.
  constructor(say) {
    this.#say = say;
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden && !this.#refused) this.look();
    });
  }

  // Whether there is anything to show, and who asks may see it: without that there is no button.
  async look() {
    if (this.#open) return;
    const { members, doors, chains } = await site().catch(() => ({}));
    this.#refused = !members;
    this.#button.hidden = !(members?.length || doors?.length || chains?.length);
  }

  open() {
    this.#open = true;
    this.#links.clear();
    this.#body.open();
  }

  close() {
    this.#open = false;
    this.#body.close();
  }

  #shown({ broker, members, doors, chains }) {
    const names = new Map(members.filter((member) => member.stages_at).map(({ stages_at, name }) => [stages_at, name]));
    return [
      broker === false && element('p.note', {}, 'The broker cannot be reached. This is what was heard last.'),
      ...chains.map((chain) => this.#chain(chain, (address) => names.get(address) ?? address)),
      ...members.slice(0, kShownMax).map(memberCard),
      members.length > kShownMax && element('p.note', {}, `And ${members.length - kShownMax} more machines.`),
      doors.length > 0 && doorsCard(doors),
      !members.length && !doors.length && !chains.length && element('p.note', {}, 'No other machine is heard.'),
    ].filter(Boolean);
  }

  #chain(chain, nameOf) {
    const stages = chain.machines
      .map(({ address, layers: [first, end] }) => ({ name: nameOf(address), first, end }))
      .filter(({ first, end }) => end > first)
      .sort((one, other) => one.first - other.first);
    if (stages[0]?.first > 0) stages.unshift({ name: 'this machine', first: 0, end: stages[0].first });
    const change = this.#change(chain);
    return element(
      'section.card',
      { 'aria-label': `Chain of ${chain.model}` },
      element('h3', {}, chain.model),
      chain.plan && element('p.note', {}, `Planned: ${chain.plan}`),
      stages.length ? layerBar(stages) : element('p.note', {}, 'No other machine has its layers now.'),
      element(
        'dl.figure-pairs',
        {},
        ...kCounts.map(({ name, label }) => {
          const shown = figure(label, chain[name].toLocaleString('en'));
          shown.classList.toggle('changed', Boolean(change?.names.includes(name)));
          return shown;
        }),
      ),
      change && row(`Last change: ${change.said}`, `${duration((performance.now() - change.at) / 1000)} ago`),
      ...chain.machines.map((machine) => this.#link(chain.model, machine, nameOf(machine.address))),
    );
  }

  // The last one that was seen here.
  #change(chain) {
    const before = this.#chains.get(chain.model);
    const risen = before ? kCounts.filter(({ name }) => chain[name] > before[name]) : [];
    let change = before?.change;
    if (risen.length) {
      const said = risen.map((count) => count.said).join(', ');
      change = { said, names: risen.map(({ name }) => name), at: performance.now() };
      this.#say(`${chain.model}: ${said}`);
    }
    this.#chains.set(chain.model, { ...chain, change });
    return change;
  }

  #link(model, { address, layers: [first, end], bytes: { sent, received }, round_trip_seconds: seconds }, name) {
    const key = JSON.stringify([model, address]);
    const at = performance.now(),
      before = this.#links.get(key);
    this.#links.set(key, { at, sent, received });
    const rate = (now, then) =>
      before && now >= then ? `${bytes((1000 * (now - then)) / Math.max(1, at - before.at))}/s` : '–';
    return element(
      'div.link',
      { role: 'group', 'aria-label': `Link to ${name}` },
      row(name, end > first ? `layers ${first}-${end}` : 'no layers'),
      row('Round trip', seconds > 0 ? `${(1000 * seconds).toFixed(2)} ms` : '–'),
      row('Sent', rate(sent, before?.sent)),
      row('Received', rate(received, before?.received)),
    );
  }
}

function layerBar(stages) {
  const said = stages.map(({ name, first, end }) => `${first}-${end} ${name}`).join(', ');
  return element(
    'div.layers',
    { role: 'img', 'aria-label': `Layers: ${said}` },
    ...stages.map(({ name, first, end }) => {
      const layers = `${first}-${end}`;
      const part = element('span', { title: `${name}: layers ${layers}` }, name, element('small', {}, layers));
      part.style.flexGrow = end - first;
      return part;
    }),
  );
}

function memberCard(member) {
  const silent = member.silent_seconds;
  const state = (text, bad) => element(bad ? 'span.state.bad' : 'span.state', {}, text);
  return element(
    'section.card',
    { 'aria-label': `Machine ${member.name}, ${member.process}` },
    element(
      'div.machine',
      {},
      element('h3', {}, member.name),
      member.there ? state('there') : state(silent == null ? 'not heard' : `silent for ${duration(silent)}`, true),
      member.battery && state('battery'),
      member.hot && state('hot', true),
    ),
    row('Process', member.process),
    row('Memory free', bytes(member.memory_bytes)),
    member.bytes_per_second > 0 && row('Reads weights', `${bytes(member.bytes_per_second)}/s`),
    member.door && row('Requests', `${member.running} running, ${member.queued} waiting`),
    ...member.stages.map(({ owner, first, end, steps }) =>
      row(`Layers ${first}-${end} for ${owner}`, `${steps.toLocaleString('en')} steps`),
    ),
  );
}

function doorsCard(doors) {
  const sum = (door, part) => door.models.reduce((total, model) => total + model[part], 0);
  return element(
    'section.card',
    { 'aria-label': 'Other servers' },
    element('h3', {}, 'Other servers'),
    ...doors.map((door) =>
      row(
        door.name || door.address,
        door.lives ? `${sum(door, 'running')} running, ${sum(door, 'waiting')} waiting` : 'does not answer',
      ),
    ),
  );
}
