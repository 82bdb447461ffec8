// The part of Markdown that models write, as blocks: lines in, plain objects out, in time linear in the text.
//
// { kind: 'paragraph' | 'heading' | 'code' | 'list' | 'quote' | 'table' | 'rule', source, ... }: `source` is the text it came from,
// equal sources mean equal blocks. An unclosed fence is code up to the end, for the rest may not have come yet.

const kFence = /^ {0,3}(`{3,}|~{3,})\s*([^`\s]*)[^`]*$/;
const kHeading = /^ {0,3}(#{1,6})\s+(.*)$/;
const kItem = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const kRule = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const kTableRule = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
const kDepthMax = 6;

export function blocks(text, depth = 0) {
  const lines = text.split('\n');
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (lines[at].trim() === '') {
      ++at;
      continue;
    }
    const from = at;
    const block = read(lines, at, depth);
    at = block.end;
    found.push({ ...block, source: lines.slice(from, at).join('\n') });
  }
  return found;
}

function read(lines, at, depth) {
  const line = lines[at];
  const fence = kFence.exec(line);
  if (fence) return code(lines, at, fence);
  const heading = kHeading.exec(line);
  if (heading)
    return { kind: 'heading', level: heading[1].length, text: heading[2].replace(/\s#+\s*$/, ''), end: at + 1 };
  if (kRule.test(line)) return { kind: 'rule', end: at + 1 };
  if (depth < kDepthMax && /^ {0,3}>/.test(line)) return quote(lines, at, depth);
  if (depth < kDepthMax && kItem.test(line)) return list(lines, at, depth);
  if (line.includes('|') && kTableRule.test(lines[at + 1] ?? '') && lines[at + 1].includes('-'))
    return table(lines, at);
  let end = at + 1;
  while (end < lines.length && lines[end].trim() !== '' && !startsBlock(lines[end], depth)) ++end;
  return { kind: 'paragraph', text: lines.slice(at, end).join('\n'), end };
}

const startsBlock = (line, depth) =>
  kFence.test(line) ||
  kHeading.test(line) ||
  kRule.test(line) ||
  (depth < kDepthMax && (/^ {0,3}>/.test(line) || kItem.test(line)));

function code(lines, at, fence) {
  const close = new RegExp(`^ {0,3}${fence[1][0]}{${fence[1].length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !close.test(lines[end])) ++end;
  return {
    kind: 'code',
    language: fence[2],
    text: lines.slice(at + 1, end).join('\n'),
    end: Math.min(end + 1, lines.length),
  };
}

function quote(lines, at, depth) {
  let end = at;
  while (end < lines.length && /^ {0,3}>/.test(lines[end])) ++end;
  return {
    kind: 'quote',
    blocks: blocks(
      lines
        .slice(at, end)
        .map((line) => line.replace(/^ {0,3}> ?/, ''))
        .join('\n'),
      depth + 1,
    ),
    end,
  };
}

// An item takes the lines that are indented below its text, blank ones between them included.
function list(lines, at, depth) {
  const first = kItem.exec(lines[at]);
  const base = first[1].length,
    ordered = /\d/.test(first[2]);
  const items = [];
  let end = at;
  while (end < lines.length) {
    const item = kItem.exec(lines[end]);
    if (
      !item ||
      item[1].length > base + 1 ||
      item[1].length < base ||
      /\d/.test(item[2]) !== ordered ||
      kRule.test(lines[end])
    )
      break;
    const body = [item[3]];
    for (++end; end < lines.length; ++end) {
      const indented = lines[end].search(/\S/) > base + 1;
      if (lines[end].trim() !== '' && !indented && (lines[end - 1].trim() === '' || startsBlock(lines[end], depth)))
        break;
      body.push(lines[end]);
    }
    const margin = body
      .slice(1)
      .reduce((least, line) => (line.trim() === '' ? least : Math.min(least, line.search(/\S/))), 8);
    while (body.length > 1 && body.at(-1).trim() === '') body.pop();
    items.push(
      blocks(
        [body[0], ...body.slice(1).map((line) => line.slice(Math.min(margin, Math.max(line.search(/\S/), 0))))].join(
          '\n',
        ),
        depth + 1,
      ),
    );
  }
  return { kind: 'list', ordered, start: ordered ? parseInt(first[2], 10) : 1, items, end };
}

function table(lines, at) {
  const cells = (line) =>
    line
      .trim()
      .replace(/^\||\|$/g, '')
      .split('|')
      .map((cell) => cell.trim());
  let end = at + 2;
  while (end < lines.length && lines[end].includes('|')) ++end;
  return { kind: 'table', head: cells(lines[at]), rows: lines.slice(at + 2, end).map(cells), end };
}

// Spans within a line: [{ kind: 'text' | 'code' | 'strong' | 'em' | 'del' | 'link', text, spans?, href? }]
// The alternatives, in the order of the groups in span().
const kSpan = new RegExp(
  [
    /(`+)([^`]|[^`].*?[^`])\1(?!`)/, // `code`
    /\*\*\*(?=\S)([^*]+)\*\*\*/, // ***both***
    /\*\*(?=\S)([^*]+(?:\*[^*]+\*[^*]*)*)\*\*/, // **strong**, perhaps with *em* in it
    /(?<!\w)__(?=\S)([^_]+)__(?!\w)/,
    /(?<![\w*])\*(?=[^\s*])([^*\n]+)\*(?!\*)/, // *em*
    /(?<!\w)_(?=[^\s_])([^_\n]+)_(?!\w)/,
    /~~(?=\S)([^~]+)~~/,
    /!?\[([^[\]\n]*)\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)(?:\s+"[^"]*")?\)/, // [label](target)
    /(https?:\/\/[^\s<>"'`*]*[^\s<>"'`*.,;:!?)\]])/,
  ]
    .map((part) => part.source)
    .join('|'),
  'su',
);

export function spans(text, depth = 0) {
  const found = [];
  let rest = text.slice(0, kSpanTextMax);
  while (rest !== '') {
    const match = depth < 4 ? kSpan.exec(rest) : null;
    if (!match) break;
    if (match.index > 0) found.push({ kind: 'text', text: rest.slice(0, match.index) });
    found.push(span(match, depth));
    rest = rest.slice(match.index + match[0].length);
  }
  rest += text.slice(kSpanTextMax);
  if (rest !== '') found.push({ kind: 'text', text: rest });
  return found;
}
const kSpanTextMax = 6000; // a paragraph longer than this is shown as it is from there on

function span(match, depth) {
  const [, , codeText, both, strong, under, star, line, struck, label, target, bare] = match;
  const nested = (kind, text) => ({ kind, spans: spans(text, depth + 1) });
  if (codeText !== undefined) return { kind: 'code', text: codeText };
  if (both !== undefined) return { kind: 'strong', spans: [nested('em', both)] };
  if ((strong ?? under) !== undefined) return nested('strong', strong ?? under);
  if ((star ?? line) !== undefined) return nested('em', star ?? line);
  if (struck !== undefined) return nested('del', struck);
  const href = safeTarget(target ?? bare);
  return href ? { kind: 'link', text: label || href, href } : { kind: 'text', text: match[0] };
}

// Only what opens another page in the open; never javascript:, data: or a path of this server.
function safeTarget(target) {
  try {
    const url = new URL(target);
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
