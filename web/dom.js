// Making elements. Text only ever becomes text: nothing here or elsewhere parses HTML.

// element('button.small', { type: 'button', onclick: f }, 'Copy'): properties starting with "on" are listeners, the rest attributes.
export function element(kind, properties = {}, ...children) {
  const [tag, ...classes] = kind.split('.');
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(' ');
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, '');
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null && child !== false));
  return made;
}

const kSvg = 'http://www.w3.org/2000/svg';

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(kSvg, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export const icon = (name) => svg('svg', { 'aria-hidden': 'true' }, svg('use', { href: `#i-${name}` }));

export const byId = (id) => document.getElementById(id);

// A button that says for a moment that it has copied.
export function copyButton(textOf, label = 'Copy') {
  const said = element('span', {}, label);
  const button = element(
    'button.small',
    {
      type: 'button',
      async onclick() {
        const copied = await copy(textOf());
        button.firstChild.replaceWith(icon(copied ? 'check' : 'copy'));
        said.textContent = copied ? 'Copied' : 'Not allowed here';
        setTimeout(() => {
          button.firstChild.replaceWith(icon('copy'));
          said.textContent = label;
        }, 1600);
      },
    },
    icon('copy'),
    said,
  );
  return button;
}

// Browsers have no clipboard for pages that came over plain HTTP from another machine; the older way works there.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = element('textarea', { class: 'hidden', 'aria-hidden': 'true' });
    const focused = document.activeElement;
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    focused?.focus();
    return copied;
  }
}
