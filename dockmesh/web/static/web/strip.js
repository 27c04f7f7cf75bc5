// The strip of hosts: one tab stop, arrow keys, and a small card on hover, focus and tap. Without this file each cell is a link with a title.
(() => {
  "use strict";

  const card = document.getElementById("strip-card");
  if (!card) return;
  const cells = () => [...document.querySelectorAll(".strip a")];
  const cellOf = (event) => event.target.closest && event.target.closest(".strip a");
  let current = "";
  let shown = "";

  // ---- one tab stop ----

  const rove = () => {
    const all = cells();
    const chosen = all.find((cell) => cell.id === current) || all[0];
    for (const cell of all) cell.tabIndex = cell === chosen ? 0 : -1;
  };
  const beside = (cell, key) => {
    const all = cells();
    const at = all.indexOf(cell);
    const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -at, End: all.length - 1 - at };
    if (key in steps) return all[at + steps[key]];
    const { left, top } = cell.getBoundingClientRect();
    const isDown = key === "ArrowDown";
    const rows = all.map((each) => [each, each.getBoundingClientRect()]).filter(([, box]) => (isDown ? box.top > top + 4 : box.top < top - 4));
    const next = isDown ? Math.min(...rows.map(([, box]) => box.top)) : Math.max(...rows.map(([, box]) => box.top));
    const row = rows.filter(([, box]) => Math.abs(box.top - next) < 4);
    row.sort(([, one], [, other]) => Math.abs(one.left - left) - Math.abs(other.left - left));
    return row.length ? row[0][0] : undefined;
  };
  document.addEventListener("keydown", (event) => {
    const cell = cellOf(event);
    if (!cell || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") hide();
    if (!["ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) return;
    event.preventDefault();
    const next = beside(cell, event.key);
    if (next) next.focus();
  });

  // ---- the card ----

  const hide = () => {
    card.hidden = true;
    shown = "";
  };
  const show = (cell) => {
    // The browser's own tip would stand above the card.
    if (cell.title) {
      cell.setAttribute("aria-label", cell.title);
      cell.title = "";
    }
    const isKnown = !cell.closest("[data-stale]");
    const words = cell.getAttribute("aria-label");
    card.firstElementChild.textContent = isKnown ? words : `${words.split(":")[0]}: not known now`;
    card.lastElementChild.href = cell.href;
    card.hidden = false;
    shown = cell.id;
    const box = cell.getBoundingClientRect();
    const left = Math.min(box.left, document.documentElement.clientWidth - card.offsetWidth - 8);
    card.style.left = `${Math.max(8, left) + scrollX}px`;
    card.style.top = `${box.bottom + scrollY + 6}px`;
  };
  document.addEventListener("pointerover", (event) => {
    const cell = cellOf(event);
    if (cell && event.pointerType !== "touch") show(cell);
    else if (!event.target.closest("#strip-card")) hide();
  });
  document.addEventListener("focusin", (event) => {
    const cell = cellOf(event);
    if (!cell) {
      if (!event.target.closest("#strip-card")) hide();
      return;
    }
    current = cell.id;
    rove();
    show(cell);
  });
  // A finger can't hover: the first tap shows the card, which leads on; so does a second tap.
  let tapped = "";
  document.addEventListener("click", (event) => {
    const cell = cellOf(event);
    if (!cell || event.pointerType !== "touch") return;
    if (tapped !== cell.id) event.preventDefault();
    tapped = cell.id;
    show(cell);
  });
  document.addEventListener("htmx:afterSwap", () => {
    rove();
    const cell = shown && document.getElementById(shown);
    if (cell) show(cell);
    else hide();
  });
  rove();
})();
