// @ts-check
// Applies Airflow's theme before the first paint: light or dark, with the deployment's own colours. Outside Airflow's
// frame, the page uses the theme that Airflow stored in this browser, or else the system's theme.
(() => {
  const FROM_AIRFLOW = [
    "bg",
    "bg-subtle",
    "bg-muted",
    "bg-emphasized",
    "bg-panel",
    "fg",
    "fg-muted",
    "fg-info",
    "border",
    "border-muted",
    "border-emphasized",
    "brand-solid",
    "brand-contrast",
    "brand-fg",
    "brand-muted",
    "brand-subtle",
    "brand-focus-ring",
    ...["success", "running", "failed", "queued", "warning"].flatMap((state) => [
      `${state}-solid`,
      `${state}-fg`,
      `${state}-subtle`,
      `${state}-muted`,
    ]),
  ]
    .map((name) => `--chakra-colors-${name}`)
    .concat("--chakra-fonts-body");

  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  /** Airflow's own <html> element, if this page is shown inside Airflow. */
  function airflow() {
    try {
      const outer = window.parent === window ? null : window.parent.document.documentElement;
      return outer && window.parent.getComputedStyle(outer).getPropertyValue("--chakra-colors-bg") ? outer : null;
    } catch {
      return null; // the outer window has another origin
    }
  }

  function storedTheme() {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage is disabled
    }
  }

  /** @param {HTMLElement | null} outer */
  function isDark(outer) {
    if (outer) return outer.classList.contains("dark");
    const theme = storedTheme();
    return theme === "dark" || (theme !== "light" && system.matches);
  }

  function apply() {
    const outer = airflow();
    const dark = isDark(outer);
    root.classList.toggle("dark", dark);
    root.style.colorScheme = dark ? "dark" : "light";
    if (outer) {
      const style = window.parent.getComputedStyle(outer);
      for (const name of FROM_AIRFLOW) {
        const value = style.getPropertyValue(name).trim();
        if (value) root.style.setProperty(name, value);
      }
    }
    root.classList.toggle("framed", Boolean(outer));
    window.dispatchEvent(new Event("themechange"));
  }

  apply();
  const outer = airflow();
  if (outer) {
    new MutationObserver(apply).observe(outer, { attributes: true, attributeFilter: ["class", "style"] });
  } else {
    system.addEventListener("change", apply);
    window.addEventListener("storage", (event) => event.key === "theme" && apply());
  }
})();
