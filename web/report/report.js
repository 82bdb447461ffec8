'use strict';
const report = JSON.parse(document.getElementById('data').textContent);
const page = document.getElementById('page');

// --- elements: text is only ever text
function element(name, options = {}, ...children) {
  const made = options.svg ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(options)) if (key !== 'svg' && value != null) made.setAttribute(key, value);
  made.append(...children.filter((child) => child != null));
  return made;
}
const svg = (name, options = {}, ...children) => element(name, { ...options, svg: true }, ...children);

// --- numbers
const known = (value) => typeof value === 'number';
const trimmed = (value, digits) => value.toLocaleString('en', { maximumFractionDigits: digits, minimumFractionDigits: digits });
const small = (value, digits = 3) => (value >= 0.001 || value === 0 ? String(+value.toPrecision(digits)) : value.toExponential(1).replace('.0', '').replace('-', '−'));
const megabytes = (bytes) => (bytes >= 1e9 ? `${trimmed(bytes / 1e9, 2)} GB` : `${trimmed(bytes / 1e6, 1)} MB`);
const percent = (share, digits = 1) => `${trimmed(100 * share, digits)} %`;
const duration = (seconds) => (seconds < 90 ? `${trimmed(seconds, 1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`);
const base = (path) => path.split(/[\\/]/).pop() || path;
const sum = (values) => values.reduce((total, value) => total + value, 0);
const mean = (values) => sum(values) / values.length;
const weights = (tensor) => tensor.shape.reduce((product, length) => product * length, 1);
const isMatrix = (tensor) => tensor.shape.length > 1;

function section(title, lead, ...children) {
  const id = title.toLowerCase().replace(/[^a-z]+/g, '-');
  page.append(
    element('section', { 'aria-labelledby': id }, element('h2', { id }, title), lead && element('p', { class: 'lead' }, lead), ...children),
  );
}

// Columns: {title, number?, cell(row)}; a cell is text or an element; the first one heads its row.
function table(columns, rows, { caption, classOf = () => null } = {}) {
  const cell = (column, row, index) =>
    element(index ? 'td' : 'th', { scope: index ? null : 'row', class: column.number ? 'number' : (column.class ?? null) }, column.cell(row) ?? '');
  return element(
    'div',
    { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    element(
      'table',
      { class: 'rows' },
      element('caption', { class: 'hidden' }, caption),
      element('thead', {}, element('tr', {}, ...columns.map((each) => element('th', { scope: 'col', class: each.number ? 'number' : null }, each.title)))),
      element('tbody', {}, ...rows.map((row) => element('tr', { class: classOf(row) }, ...columns.map((each, index) => cell(each, row, index))))),
    ),
  );
}
const details = (title, ...children) => element('details', {}, element('summary', {}, title), ...children);
const bar = (share) => element('div', { class: 'bar', 'aria-hidden': 'true' }, element('i', { style: `width:${Math.min(100, 100 * share)}%` }));

// A plot is drawn for the width it has, so that its letters keep their size.
function plot(draw, height, label) {
  const holder = element('div', { class: 'plot' });
  let drawn = 0;
  new ResizeObserver(() => {
    const width = Math.round(holder.clientWidth);
    if (!width || width === drawn) return;
    drawn = width;
    const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, height, role: 'img', 'aria-label': label });
    draw(picture, width, height);
    holder.replaceChildren(picture);
  }).observe(holder);
  return holder;
}
const line = (x1, y1, x2, y2, name) => svg('line', { x1, y1, x2, y2, class: name });
const text = (x, y, said, options = {}) => svg('text', { x, y, ...options }, said);

// Ticks of a logarithmic axis: 1, 2 and 5 of each decade, or the decades alone where those are many.
function logTicks(low, high) {
  const ticks = [];
  const steps = high / low > 400 ? [1] : high / low > 60 ? [1, 3] : [1, 2, 5];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); ++power)
    for (const step of steps) if (step * 10 ** power >= low && step * 10 ** power <= high) ticks.push(+(step * 10 ** power).toPrecision(2));
  return ticks;
}
function linearTicks(low, high, count) {
  const raw = (high - low) / count;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((each) => each * unit >= raw) * unit;
  const ticks = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) ticks.push(+at.toPrecision(6));
  return ticks;
}
const between = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);

// --- the head: what came out, at a glance
function head() {
  const { source, output } = report;
  document.title = `${base(output.path)}: quantisation report`;
  const ratio = source.bytes / output.bytes;
  const quality = output.quality ?? {};
  const said = [
    element('strong', {}, `${trimmed(ratio, 1)} times smaller`),
    ` than ${base(source.path)}`,
    known(quality.same_top) ? `, with the same most likely token in ${percent(quality.same_top)} of places.` : '. ',
    known(quality.mean_kld) ? '' : report.dry_run ? 'This is the plan; nothing was written.' : 'Its quality was not measured.',
  ];
  page.append(
    element(
      'header',
      {},
      element('p', { class: 'maker' }, `Hearth ${report.version}, quantisation report`, report.dry_run ? element('span', { class: 'badge' }, 'plan only') : null),
      element('h1', {}, base(output.path)),
      element('p', { class: 'verdict' }, ...said),
    ),
  );
  const card = (title, figure, unit, ...notes) =>
    element(
      'div',
      { class: 'card' },
      element('h2', {}, title),
      element('div', { class: 'figure' }, figure, unit ? element('span', { class: 'unit' }, unit) : null),
      ...notes.filter(Boolean).map((note) => (typeof note === 'string' ? element('p', {}, note) : note)),
    );
  const [size, unit] = megabytes(output.bytes).split(' ');
  const absent = '–';
  const change = known(quality.perplexity) && known(source.quality?.perplexity) ? quality.perplexity / source.quality.perplexity - 1 : null;
  page.append(
    element(
      'div',
      { class: 'cards' },
      card('Size', size, unit, bar(1 / ratio), `${percent(1 / ratio)} of ${megabytes(source.bytes)}; ${trimmed(report.bits_per_weight, 2)} bits per weight`),
      card('Mean KL divergence', known(quality.mean_kld) ? small(quality.mean_kld) : absent, known(quality.mean_kld) ? 'nats' : '',
        known(quality.kld_p999) ? `from the source; 99.9 % of places are below ${small(quality.kld_p999)}` : 'from the source: not measured'),
      card('Same top token', known(quality.same_top) ? trimmed(100 * quality.same_top, 1) : absent, known(quality.same_top) ? '%' : '',
        known(quality.same_top) ? bar(quality.same_top) : null, known(quality.same_top) ? 'of places have the source’s most likely token' : 'not measured'),
      card('Perplexity', known(quality.perplexity) ? trimmed(quality.perplexity, 2) : absent, '',
        change === null ? 'not measured' : `${change < 0 ? '−' : '+'}${percent(Math.abs(change), 2)} to the source’s ${trimmed(source.quality.perplexity, 2)}`),
    ),
  );
}

// --- bytes against divergence
function trade() {
  const points = report.trade.filter((point) => known(point.mean_kld) && point.mean_kld > 0 && point.bytes > 0);
  if (points.length < 2) return;
  const aims = [...(report.target_bytes ? [report.target_bytes] : [])];
  const bytes = [...points.map((point) => point.bytes), ...aims];
  const klds = [...points.map((point) => point.mean_kld), ...(report.target_kld ? [report.target_kld] : [])];
  const reach = Math.max(...bytes) - Math.min(...bytes) || bytes[0] * 0.1;
  const [low, high] = [Math.min(...bytes) - 0.06 * reach, Math.max(...bytes) + 0.08 * reach];
  const [bottom, top] = [Math.min(...klds) / 1.35, Math.max(...klds) * 1.35];
  const draw = (picture, width, height) => {
    const [left, right, above, below] = [52, width - 8, 30, height - 40];
    const x = between(low, high, left, right);
    const logY = between(Math.log(bottom), Math.log(top), below, above);
    const y = (value) => logY(Math.log(value));
    for (const tick of logTicks(bottom, top)) {
      picture.append(line(left, y(tick), right, y(tick), 'grid'), text(left - 8, y(tick) + 4, small(tick), { 'text-anchor': 'end' }));
    }
    for (const tick of linearTicks(low / 1e6, high / 1e6, Math.max(5, width / 110))) {
      picture.append(line(x(tick * 1e6), below, x(tick * 1e6), below + 5, 'axis'), text(x(tick * 1e6), below + 19, String(tick), { 'text-anchor': 'middle' }));
    }
    picture.append(line(left, below, right, below, 'axis'), text(right, height - 4, 'size in MB', { 'text-anchor': 'end' }), text(0, 12, 'mean KL divergence, nats'));
    for (const aim of aims) picture.append(line(x(aim), above, x(aim), below, 'aim'), text(x(aim) + 6, above + 4, `target ${megabytes(aim)}`));
    if (report.target_kld) {
      picture.append(line(left, y(report.target_kld), right, y(report.target_kld), 'aim'), text(right, y(report.target_kld) - 6, `target ${small(report.target_kld)}`, { 'text-anchor': 'end' }));
    }
    const curve = points.filter((point) => point.kind === 'plan').sort((a, b) => a.bytes - b.bytes);
    picture.append(svg('path', { class: 'curve', d: curve.map((point, index) => `${index ? 'L' : 'M'}${x(point.bytes)} ${y(point.mean_kld)}`).join('') }));
    // Where labels may not lie: on the curve, a point, or another label.
    const taken = [];
    curve.slice(1).forEach((to, index) => {
      for (let share = 0; share < 1; share += 0.1) {
        const mix = (a, b) => a + share * (b - a);
        taken.push([mix(x(curve[index].bytes), x(to.bytes)) - 1, mix(y(curve[index].mean_kld), y(to.mean_kld)) - 1, 2, 2]);
      }
    });
    for (const aim of aims) taken.push([x(aim), above - 8, 90, 14]);
    const label = (point, strong) => {
      const words = strong && width > 480 ? `${point.label} · ${small(point.mean_kld)}` : point.label;
      const length = words.length * (strong ? 7.6 : 6.4);
      for (const [dx, dy] of [[11, 4], [-11 - length, 4], [-length / 2, -12], [-length / 2, 22], [8, -8], [-8 - length, -8], [8, 18], [-8 - length, 18]]) {
        const box = [x(point.bytes) + dx, y(point.mean_kld) + dy - 11, length, 14];
        const free = box[0] > left && box[0] + length < width && box[1] > 0 && box[1] + 14 < below &&
          taken.every((other) => box[0] + box[2] < other[0] || other[0] + other[2] < box[0] || box[1] + box[3] < other[1] || other[1] + other[3] < box[1]);
        if (!free) continue;
        taken.push(box);
        picture.append(text(box[0], box[1] + 11, words, { class: strong ? 'strong' : null }));
        return;
      }
    };
    const order = { plan: 0, alternative: 1, result: 2 };
    const drawn = [...points].sort((a, b) => order[a.kind] - order[b.kind]);
    for (const point of drawn) {
      const size = { plan: 2.5, alternative: 4.5, result: 7 }[point.kind];
      taken.push([x(point.bytes) - size, y(point.mean_kld) - size, 2 * size, 2 * size]);
      picture.append(svg('circle', { cx: x(point.bytes), cy: y(point.mean_kld), r: size, class: point.kind,
        'data-tip': `${point.label}\n${megabytes(point.bytes)}, KLD ${small(point.mean_kld)}` }));
    }
    for (const point of drawn.reverse()) if (point.kind !== 'plan') label(point, point.kind === 'result');
  };
  const marks = { result: 'the result', alternative: 'alternatives that were measured', plan: 'the planner’s curve (expected)' };
  const legend = Object.entries(marks)
    .filter(([kind]) => points.some((point) => point.kind === kind))
    .map(([kind, words]) =>
      element('li', {}, svg('svg', { viewBox: '0 0 22 14', 'aria-hidden': 'true' }, kind === 'plan' ? line(0, 7, 22, 7, 'curve') : null,
        svg('circle', { cx: 11, cy: 7, r: { plan: 2.5, alternative: 4.5, result: 6 }[kind], class: kind })), words));
  section(
    'Bytes against divergence',
    'Each point is one way to spend the bytes. Lower is closer to the source, further left is smaller; the scale of divergence is logarithmic.',
    element('ul', { class: 'legend' }, ...legend),
    plot(draw, 380, `Plot of ${points.length} points: size against mean KL divergence. The table below has the same figures.`),
    details('The points as a table', table(
      [
        { title: 'Point', cell: (point) => point.label },
        { title: 'What', cell: (point) => marks[point.kind] },
        { title: 'MB', number: true, cell: (point) => trimmed(point.bytes / 1e6, 1) },
        { title: 'Mean KLD', number: true, cell: (point) => small(point.mean_kld) },
      ],
      [...points].sort((a, b) => a.bytes - b.bytes),
      { caption: 'Bytes against divergence', classOf: (point) => (point.kind === 'result' ? 'current' : null) },
    )),
  );
}

// --- bits per tensor
const matrices = report.tensors.filter(isMatrix);
const inLayers = matrices.filter((tensor) => known(tensor.layer));
const kinds = [...new Set(inLayers.map((tensor) => tensor.kind))];
const layers = inLayers.length ? Math.max(...inLayers.map((tensor) => tensor.layer)) + 1 : 0;
const fewest = Math.min(...matrices.map((tensor) => tensor.bits_per_weight), 4.3);
const most = Math.max(...matrices.map((tensor) => Math.min(9, tensor.bits_per_weight)), 8.5);
const shadeOf = between(fewest, most, 0.05, 0.56);
const shade = (bits) => element('i', { class: 'shade', style: `opacity:${shadeOf(Math.min(bits, most))}`, 'aria-hidden': 'true' });
const bitsOfType = (type) => mean(report.tensors.filter((tensor) => tensor.type === type).map((tensor) => tensor.bits_per_weight ?? 0));
const shortBits = (bits) => (bits >= 9.95 ? String(Math.round(bits)) : trimmed(bits, 1));
const aboutTensor = (tensor) =>
  `${tensor.name}\n${tensor.from} → ${tensor.type}, ${trimmed(tensor.bits_per_weight, 2)} bits, ${megabytes(tensor.bytes)}` +
  (known(tensor.output_error) ? `\nerror of its output ${small(tensor.output_error)}` : '');

function bits() {
  if (!matrices.length) return;
  const at = new Map(inLayers.map((tensor) => [`${tensor.layer} ${tensor.kind}`, tensor]));
  const place = (layer, kind) => `--layer:${layer + 2};--kind:${kind + 2}`;
  const strip = element(
    'table',
    { class: 'bits', role: 'table' },
    element('thead', { role: 'rowgroup' }, element('tr', { role: 'row' }, element('td', { style: place(-1, -1) + ';background:none', role: 'cell' }),
      ...Array.from({ length: layers }, (_, layer) => element('th', { scope: 'col', role: 'columnheader', style: place(layer, -1), 'aria-label': `layer ${layer}` }, String(layer))))),
    element('tbody', { role: 'rowgroup' }, ...kinds.map((kind, row) =>
      element('tr', { role: 'row' }, element('th', { scope: 'row', role: 'rowheader', style: place(-1, row) }, kind.replaceAll('_', '_\u200b')),
        ...Array.from({ length: layers }, (_, layer) => {
          const tensor = at.get(`${layer} ${kind}`);
          return element('td', { role: 'cell', style: place(layer, row), 'data-tip': tensor && aboutTensor(tensor) },
            ...(tensor ? [shade(tensor.bits_per_weight), element('span', {}, shortBits(tensor.bits_per_weight))] : []));
        })))),
  );
  const shown = [...new Set(matrices.map((tensor) => tensor.type))].map((type) => ({ type, bits: bitsOfType(type) })).sort((a, b) => a.bits - b.bits);
  const outside = matrices.filter((tensor) => !known(tensor.layer));
  section(
    'Bits per tensor',
    'Bits per weight, scales included, of every matrix by layer. The stronger the colour, the more bits.',
    layers ? element('div', { class: 'strip', tabindex: '0', role: 'region', 'aria-label': 'Bits by layer' }, strip) : null,
    element('div', { class: 'scale' }, 'Types:', ...shown.flatMap(({ type, bits: each }) => [element('b', {}, shade(each)), `${type} ${trimmed(each, 2)}`])),
    outside.length
      ? table(
          [
            { title: 'Outside the layers', cell: (tensor) => tensor.name },
            { title: 'Type', cell: (tensor) => tensor.type },
            { title: 'Bits', number: true, cell: (tensor) => trimmed(tensor.bits_per_weight, 2) },
            { title: 'Size', number: true, cell: (tensor) => megabytes(tensor.bytes) },
            { title: 'Share of the file', class: 'of', cell: (tensor) => bar(tensor.bytes / report.tensor_bytes) },
          ],
          outside,
          { caption: 'Matrices outside the layers' },
        )
      : null,
  );
}

// --- error per layer
function errors() {
  const measured = inLayers.filter((tensor) => known(tensor.output_error) && tensor.output_error > 0);
  if (!measured.length) return;
  const all = measured.map((tensor) => tensor.output_error);
  const [low, high] = [Math.min(...all) / 1.3, Math.max(...all) * 1.3];
  const one = (kind) => {
    const own = measured.filter((tensor) => tensor.kind === kind).sort((a, b) => a.layer - b.layer);
    if (!own.length) return null;
    const worst = own.reduce((a, b) => (a.output_error >= b.output_error ? a : b));
    const draw = (picture, width, height) => {
      const [left, right, above, below] = [44, width - 6, 6, height - 18];
      const x = between(0, Math.max(1, layers - 1), left, right);
      const logY = between(Math.log(low), Math.log(high), below, above);
      const y = (value) => logY(Math.log(value));
      const ticks = logTicks(low, high);
      for (const tick of ticks.filter((_, index) => index % Math.ceil(ticks.length / 4) === 0)) {
        picture.append(line(left, y(tick), right, y(tick), 'grid'), text(left - 6, y(tick) + 4, small(tick), { 'text-anchor': 'end' }));
      }
      picture.append(line(left, below, right, below, 'axis'));
      for (const layer of linearTicks(0, Math.max(1, layers - 1), 4)) picture.append(text(x(layer), height - 3, String(layer), { 'text-anchor': 'middle' }));
      picture.append(svg('path', { class: 'curve', d: own.map((tensor, index) => `${index ? 'L' : 'M'}${x(tensor.layer)} ${y(tensor.output_error)}`).join('') }));
      picture.append(svg('circle', { cx: x(worst.layer), cy: y(worst.output_error), r: 4, class: 'worst' }));
      for (const tensor of own)
        picture.append(svg('rect', { x: x(tensor.layer) - 4, y: above, width: 8, height: below - above, fill: 'transparent', 'data-tip': aboutTensor(tensor) }));
    };
    const words = `mean ${small(mean(own.map((tensor) => tensor.output_error)), 2)}, worst ${small(worst.output_error, 2)} in layer ${worst.layer}`;
    return element('div', {}, element('h3', {}, kind), element('p', {}, words), plot(draw, 120, `Error of ${kind} by layer: ${words}`));
  };
  section(
    'Error per layer',
    'How far each matrix’s output is from what it was, |y − y′|² / |y|² on the calibration text, by layer; all on one logarithmic scale. The dot is the worst layer.',
    element('div', { class: 'small-plots' }, ...kinds.map(one)),
  );
}

// --- the plan
function plan() {
  const types = [...new Set(report.tensors.map((tensor) => tensor.type))].sort((a, b) => bitsOfType(a) - bitsOfType(b));
  const groups = new Map();
  for (const tensor of report.tensors) {
    const kind = isMatrix(tensor) ? tensor.kind : 'norms and vectors';
    groups.set(kind, [...(groups.get(kind) ?? []), tensor]);
  }
  const rowOf = (kind, tensors) => {
    const bytes = sum(tensors.map((tensor) => tensor.bytes));
    const measured = tensors.map((tensor) => tensor.output_error).filter(known);
    return { kind, tensors, bytes, bits: (8 * bytes) / sum(tensors.map(weights)), error: measured.length ? mean(measured) : null,
      reason: [...new Set(tensors.map((tensor) => tensor.reason).filter(Boolean))].join('; ') };
  };
  const rows = [...groups].map(([kind, tensors]) => rowOf(kind, tensors));
  const total = { ...rowOf('all', report.tensors), error: null, reason: '' };
  const query = element('input', { type: 'search', autocomplete: 'off', placeholder: 'ffn_down, blk.7, i6 …' });
  const every = table(
    [
      { title: 'Tensor', cell: (tensor) => tensor.name },
      { title: 'Shape', cell: (tensor) => tensor.shape.join(' × ') },
      { title: 'From', cell: (tensor) => tensor.from },
      { title: 'Type', cell: (tensor) => tensor.type },
      { title: 'Bits', number: true, cell: (tensor) => trimmed(tensor.bits_per_weight, 2) },
      { title: 'Bytes', number: true, cell: (tensor) => trimmed(tensor.bytes, 0) },
      { title: 'Error', number: true, cell: (tensor) => (known(tensor.output_error) ? small(tensor.output_error) : '') },
      { title: 'Why', class: 'words', cell: (tensor) => tensor.reason },
    ],
    report.tensors,
    { caption: 'All tensors' },
  );
  query.addEventListener('input', () => {
    const wanted = query.value.trim().toLowerCase();
    for (const row of every.querySelectorAll('tbody tr')) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
  section(
    'The plan',
    'How many tensors of each kind were given which type, and what that takes.',
    table(
      [
        { title: 'Matrices', cell: (row) => row.kind },
        ...types.map((type) => ({ title: type, number: true, cell: (row) => String(row.tensors.filter((tensor) => tensor.type === type).length || '·') })),
        { title: 'Bits', number: true, cell: (row) => trimmed(row.bits, 2) },
        { title: 'MB', number: true, cell: (row) => trimmed(row.bytes / 1e6, 1) },
        { title: 'Share', class: 'of', cell: (row) => bar(row.bytes / report.tensor_bytes) },
        { title: 'Mean error', number: true, cell: (row) => (known(row.error) ? small(row.error) : '') },
        ...(rows.some((row) => row.reason) ? [{ title: 'Why', class: 'words', cell: (row) => row.reason }] : []),
      ],
      [...rows, total],
      { caption: 'The plan by kind of matrix and type', classOf: (row) => (row === total ? 'total' : null) },
    ),
    details(`All ${report.tensors.length} tensors`, element('label', {}, 'Show tensors with', query), every),
  );
}

// --- how it was made
function made() {
  const list = element('dl', { class: 'made' });
  const row = (term, ...said) => list.append(element('dt', {}, term), element('dd', {}, ...said));
  const given = (given_text, use) =>
    given_text ? [`${base(given_text.path)}, ${trimmed(given_text.tokens, 0)} tokens ${use}, SHA-256 `, element('code', {}, given_text.sha256)] : null;
  if (report.command) row('Command', element('code', {}, report.command));
  row('Source', `${report.source.path} (${report.source.format}, ${trimmed(report.source.bytes, 0)} bytes)`, ...(report.source_sha256 ? [', SHA-256 ', element('code', {}, report.source_sha256)] : []));
  row('Output', `${report.output.path} (${report.output.format}, ${trimmed(report.output.bytes, 0)} bytes${report.dry_run ? ', planned' : ''})`);
  row('Calibration text', ...(given(report.calibration, 'used') ?? ['none: rounded without looking at activations']));
  row('Judged on', ...(given(report.judge, 'judged') ?? ['nothing: quality was not measured']));
  row('Seed', String(report.seed));
  row('Time and peak memory', `${duration(report.seconds)}, ${megabytes(report.peak_rss_bytes)}`);
  section('How it was made', 'The same command with the same files and seed gives the same bytes.', list);
}

// --- what a pointer rests on
function tips() {
  const tip = document.getElementById('tip');
  document.addEventListener('pointermove', ({ target, pageX, pageY }) => {
    const over = target instanceof Element ? target.closest('[data-tip]') : null;
    tip.hidden = !over;
    if (!over) return;
    tip.textContent = over.dataset.tip;
    tip.style.left = `${Math.max(8, Math.min(pageX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${pageY + 18}px`;
  });
}

head();
trade();
bits();
errors();
plan();
made();
tips();
