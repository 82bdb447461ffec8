// Before the first paint, so that a page in the dark does not flash: the theme that was chosen, if one was.
try {
  const chosen = localStorage.getItem('hearth.theme');
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
} catch {
  /* no storage: the system's theme */
}
