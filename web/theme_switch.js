// Light or dark: the system's choice until the user makes another.
export function startThemeSwitch(button) {
  const root = document.documentElement;
  const system = matchMedia('(prefers-color-scheme: dark)');
  const isDark = () => (root.dataset.theme ?? (system.matches ? 'dark' : 'light')) === 'dark';
  const label = () => {
    button.setAttribute('aria-label', isDark() ? 'Use the light theme' : 'Use the dark theme');
    button.title = button.getAttribute('aria-label');
  };
  button.addEventListener('click', () => {
    const wanted = isDark() ? 'light' : 'dark';
    const follows = (wanted === 'dark') === system.matches;
    if (follows) delete root.dataset.theme;
    else root.dataset.theme = wanted;
    try {
      if (follows) localStorage.removeItem('hearth.theme');
      else localStorage.setItem('hearth.theme', wanted);
    } catch {
      /* for this visit only */
    }
    label();
  });
  system.addEventListener('change', label);
  label();
}
