// Figures with their labels, and numbers in words for people.
import { element } from './dom.js';

export const figure = (label, value) =>
  element('div.figure', {}, element('dt', {}, label), element('dd', {}, String(value)));
export const row = (label, value) => element('div.row', {}, element('span', {}, label), element('b', {}, value));

export function gauge(label, used, most, written) {
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

export function bytes(count) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let at = 0;
  for (; count >= 1000 && at < units.length - 1; ++at) count /= 1000;
  return `${count < 10 && at > 0 ? count.toFixed(1) : Math.round(count)} ${units[at]}`;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} days`;
}
