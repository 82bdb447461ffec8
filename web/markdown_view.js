// Blocks of Markdown as elements. A view follows a text that grows: what has not changed keeps its elements, so that a selection
// or the scrolling of a code block survives the next piece.
import { copyButton, element } from './dom.js';
import { blocks, spans } from './markdown.js';

export class MarkdownView {
  #shown = []; // sources of the elements in `root`, in order

  constructor() {
    this.root = element('div.text');
  }

  show(text) {
    const wanted = blocks(text);
    let same = 0;
    while (same < this.#shown.length && same < wanted.length && this.#shown[same] === wanted[same].source) ++same;
    while (this.root.children.length > same) this.root.lastChild.remove();
    this.root.append(...wanted.slice(same).map(blockElement));
    this.#shown = wanted.map((block) => block.source);
  }
}

function blockElement(block) {
  switch (block.kind) {
    case 'heading':
      return element(`h${Math.min(block.level + 2, 5)}`, {}, ...inline(block.text));
    case 'code':
      return codeElement(block);
    case 'list':
      return element(
        block.ordered ? 'ol' : 'ul',
        { start: block.ordered && block.start !== 1 ? block.start : null },
        ...block.items.map((item) => element('li', {}, ...itemContent(item))),
      );
    case 'quote':
      return element('blockquote', {}, ...block.blocks.map(blockElement));
    case 'table':
      return tableElement(block);
    case 'rule':
      return element('hr');
    default:
      return element('p', {}, ...inline(block.text));
  }
}

// An item of a single paragraph needs no <p>.
const itemContent = (item) =>
  item.flatMap((block, at) => (block.kind === 'paragraph' && at === 0 ? inline(block.text) : [blockElement(block)]));

function codeElement(block) {
  const code = element('code', {}, block.text);
  return element(
    'div.code',
    {},
    element(
      'div.code-head',
      {},
      element('span', {}, block.language || 'text'),
      copyButton(() => code.textContent, 'Copy code'),
    ),
    element('pre', { tabindex: 0, role: 'region', 'aria-label': `Code, ${block.language || 'text'}` }, code),
  );
}

function tableElement(block) {
  const row = (cells, kind) =>
    element('tr', {}, ...cells.map((cell) => element(kind, kind === 'th' ? { scope: 'col' } : {}, ...inline(cell))));
  return element(
    'div.table',
    { tabindex: 0, role: 'region', 'aria-label': 'Table' },
    element(
      'table',
      {},
      element('thead', {}, row(block.head, 'th')),
      element('tbody', {}, ...block.rows.map((cells) => row(cells, 'td'))),
    ),
  );
}

const inline = (text) => spans(text).map(spanNode);

function spanNode(span) {
  if (span.kind === 'text') return document.createTextNode(span.text);
  if (span.kind === 'code') return element('code', {}, span.text);
  if (span.kind === 'link')
    return element(
      'a',
      { href: span.href, title: span.href, target: '_blank', rel: 'noopener noreferrer nofollow' },
      span.text,
    );
  return element(span.kind, {}, ...span.spans.map(spanNode));
}
