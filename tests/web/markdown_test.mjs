// What models write as Markdown, and what the page makes of it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const source = readFileSync(new URL('../../web/markdown.js', import.meta.url));
const { blocks, spans } = await import(`data:text/javascript;base64,${source.toString('base64')}`);

// Short forms: a paragraph is its text, everything else an array with its kind.
const form = (list) =>
  list.map((block) => {
    if (block.kind === 'paragraph') return block.text;
    if (block.kind === 'list') return [block.ordered ? `ol ${block.start}` : 'ul', ...block.items.map(form)];
    if (block.kind === 'quote') return ['quote', ...form(block.blocks)];
    if (block.kind === 'table') return ['table', block.head, ...block.rows];
    return [block.kind, ...[block.language || block.level, block.text].filter((part) => part !== undefined)];
  });

for (const [text, wanted] of [
  ['# One #\ntwo\nthree\n\nfour', [['heading', 1, 'One'], 'two\nthree', 'four']],
  ['- a\n- b\n  - c\n    d\n- e\n\ntext', [['ul', ['a'], ['b', ['ul', ['c\nd']]], ['e']], 'text']],
  [
    '3. one\n\n   more\n\n4. two\n```\nx',
    [
      ['ol 3', ['one', 'more'], ['two']],
      ['code', 'x'],
    ],
  ],
  ['1. run\n   ```sh\n   a\n     b\n   ```\n2. done', [['ol 1', ['run', ['code', 'sh', 'a\n  b']], ['done']]]],
  ['```js\nnot closed\n- yet', [['code', 'js', 'not closed\n- yet']]],
  ['````\n```\n````', [['code', '```']]],
  ['> a\n> - b\n\nc', [['quote', 'a', ['ul', ['b']]], 'c']],
  ['| a | b |\n|---|:-:|\n| 1 | 2 |\nend', [['table', ['a', 'b'], ['1', '2']], 'end']],
  ['a | b\nno table', ['a | b\nno table']],
  ['***', [['rule']]],
  [' \n\n', []],
]) {
  test(`blocks of ${JSON.stringify(text)}`, () => assert.deepEqual(form(blocks(text)), wanted));
}

const spanForm = (list) =>
  list.map((span) =>
    span.kind === 'text' ? span.text : [span.kind, ...(span.spans ? spanForm(span.spans) : [span.href ?? span.text])],
  );

for (const [text, wanted] of [
  ['**a *b* c** d', [['strong', 'a ', ['em', 'b'], ' c'], ' d']],
  ['***x*** __y__ _z_', [['strong', ['em', 'x']], ' ', ['strong', 'y'], ' ', ['em', 'z']]],
  ['2 * 3 * 4, f(*args, **rest), snake_case_name', ['2 * 3 * 4, f(*args, **rest), snake_case_name']],
  ['`` a ` b `` and `**c**`', [['code', ' a ` b '], ' and ', ['code', '**c**']]],
  [
    '[x](https://e.org/a_(b)), https://e.org/y.',
    [['link', 'https://e.org/a_(b)'], ', ', ['link', 'https://e.org/y'], '.'],
  ],
  [
    '[x](javascript:alert(1)) [y](/v1/models) [z](data:text/html,a)',
    ['[x](javascript:alert(1)) [y](/v1/models) [z](data:text/html,a)'],
  ],
  ['**not closed', ['**not closed']],
]) {
  const joined = (list) =>
    list.reduce(
      (all, part) =>
        typeof part === 'string' && typeof all.at(-1) === 'string'
          ? [...all.slice(0, -1), all.at(-1) + part]
          : [...all, part],
      [],
    );
  test(`spans of ${JSON.stringify(text)}`, () => assert.deepEqual(joined(spanForm(spans(text))), wanted));
}

test('what is nested or repeated without end neither overflows nor hangs', () => {
  for (const text of [
    '>'.repeat(50000),
    '- '.repeat(20000),
    `${'|'.repeat(20000)}\n|-`,
    '```\n'.repeat(20001),
    Array.from({ length: 500 }, (_, at) => `${' '.repeat(at)}- x`).join('\n'),
  ])
    assert.ok(blocks(text).length > 0);
  for (const text of [
    '**a '.repeat(20000),
    '`a``b```'.repeat(8000),
    '['.repeat(50000),
    '_a '.repeat(20000),
    `[a](${'('.repeat(20000)}`,
  ])
    assert.ok(spans(text).length > 0);
});
