// What the pages do beyond plain HTML. Every page reads and every form works without this file.
(() => {
  "use strict";

  const announce = (text) => {
    const place = document.getElementById("announce");
    if (place) place.textContent = text;
  };

  // ---- light and dark: the server reads the cookie, so a page never flashes ----
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const shownTheme = () => root.dataset.theme || (prefersDark.matches ? "dark" : "light");

  const nameThemeSwitch = () => {
    const next = shownTheme() === "dark" ? "light" : "dark";
    for (const form of document.querySelectorAll("[data-theme-form]")) {
      form.elements.theme.value = next;
      const label = form.querySelector("[data-theme-label]");
      if (label) label.textContent = next === "dark" ? "Dark theme" : "Light theme";
    }
    for (const form of document.querySelectorAll("[data-theme-system]")) form.hidden = !root.dataset.theme;
  };

  document.addEventListener("submit", (event) => {
    const form = event.target.closest("[data-theme-form]");
    if (!form) return;
    event.preventDefault();
    const theme = shownTheme() === "dark" ? "light" : "dark";
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `dockmesh_theme=${theme}; Path=${document.body.dataset.path}; Max-Age=31536000; SameSite=Lax${secure}`;
    root.dataset.theme = theme;
    nameThemeSwitch();
    announce(theme === "dark" ? "Dark theme" : "Light theme");
  });
  document.addEventListener("submit", (event) => {
    const form = event.target.closest("[data-theme-system]");
    if (!form) return;
    event.preventDefault();
    document.cookie = `dockmesh_theme=; Path=${document.body.dataset.path}; Max-Age=0; SameSite=Lax`;
    delete root.dataset.theme;
    nameThemeSwitch();
    document.querySelector("[data-theme-form] button").focus();
    announce("System theme");
  });
  prefersDark.addEventListener("change", nameThemeSwitch);

  // ---- Escape closes the phone's menu ----
  document.addEventListener("keydown", (event) => {
    const menu = document.getElementById("nav-toggle");
    if (event.key !== "Escape" || !menu || !menu.checked) return;
    menu.checked = false;
    menu.focus();
  });

  // ---- copy: with the clipboard where the browser allows it, else select and tell ----
  const copyBySelection = (source) => {
    const range = document.createRange();
    range.selectNodeContents(source);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    let isCopied = false;
    try {
      isCopied = document.execCommand("copy");
    } catch {
      // The selection stays, for the keys.
    }
    // What stays selected holds a refresh back.
    if (isCopied) selection.removeAllRanges();
    return isCopied;
  };

  const copy = async (source) => {
    if (navigator.clipboard && isSecureContext) {
      try {
        await navigator.clipboard.writeText(source.textContent);
        return true;
      } catch {
        // Denied by the browser: fall through to the selection.
      }
    }
    return copyBySelection(source);
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = button.parentElement.querySelector("code");
    const done = await copy(source);
    const word = button.querySelector("[data-copy-word]");
    const keys = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘C" : "Ctrl+C";
    const text = done ? "Copied" : `Selected: press ${keys}`;
    if (!done) copyBySelection(source);
    announce(text);
    button.classList.toggle("is-copied", done);
    const before = button.dataset.copy || (word ? word.textContent : button.title);
    button.dataset.copy = before;
    if (word) word.textContent = text;
    button.title = text;
    clearTimeout(button.copyTimer);
    button.copyTimer = setTimeout(() => {
      button.classList.remove("is-copied");
      if (word) word.textContent = before;
      button.title = before;
    }, 2500);
  });

  // ---- times: keep "4 s ago" true while the page is open ----
  const ago = (seconds) => {
    const past = seconds >= 0;
    const s = Math.abs(seconds);
    let text;
    if (s < 1) return "just now";
    if (s < 60) text = `${Math.floor(s)} s`;
    else if (s < 3600) text = `${Math.floor(s / 60)} min`;
    else if (s < 86400) text = `${Math.floor(s / 3600)} h`;
    else text = `${Math.floor(s / 86400)} d`;
    return past ? `${text} ago` : `in ${text}`;
  };
  // The exact time, of today without its day.
  const moment = (element, now) => {
    const isToday = new Date(now).toISOString().slice(0, 10) === element.dateTime.slice(0, 10);
    return isToday ? element.title.replace(/^.*, /, "") : element.title;
  };

  // The server's clock counts, not the visitor's.
  const skew = Date.now() - Date.parse(document.body.dataset.now || new Date().toISOString());
  const tick = () => {
    if (document.hidden) return;
    const now = Date.now() - skew;
    for (const element of document.querySelectorAll("time[data-ago]")) {
      // Of what nobody vouches for any more the time itself is all that is sure.
      const isKnown = !element.closest("[data-stale]");
      const text = isKnown ? ago((now - Date.parse(element.dateTime)) / 1000) : moment(element, now);
      if (element.textContent !== text) element.textContent = text;
    }
  };
  setInterval(tick, 1000);
  document.addEventListener("dockmesh:tick", tick);
  document.addEventListener("visibilitychange", tick);

  // ---- filters apply as they are chosen; without this script a button sends them ----
  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-auto]");
    if (form) form.requestSubmit();
  });

  // ---- parts of a form that belong to one choice ----
  const showChosen = () => {
    for (const part of document.querySelectorAll("[data-shown-for]")) {
      const [name, value] = part.dataset.shownFor.split("=");
      const control = document.querySelector(`[name="${name}"]:checked, select[name="${name}"]`);
      part.hidden = !control || control.value !== value;
    }
  };
  document.addEventListener("change", showChosen);

  const ready = () => {
    for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
    nameThemeSwitch();
    showChosen();
    tick();
  };
  document.addEventListener("htmx:afterSwap", ready);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", ready);
  else ready();
})();
