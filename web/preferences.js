// Small things the browser remembers. A browser that allows no storage remembers them until the page is closed.
const memory = new Map();

export function remembered(name, otherwise = null) {
  try {
    const text = localStorage.getItem(`hearth.${name}`);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return memory.get(name) ?? otherwise;
  }
}

export function remember(name, value) {
  memory.set(name, value);
  try {
    if (value === null) localStorage.removeItem(`hearth.${name}`);
    else localStorage.setItem(`hearth.${name}`, JSON.stringify(value));
  } catch {
    /* kept in memory */
  }
}
