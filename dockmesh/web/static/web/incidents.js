// Incidents that are new wait until the reader asks for them: what one looks at does not move. Without this file they come in by themselves.
(() => {
  "use strict";

  const incidents = () => [...document.querySelectorAll(".incident")];
  const seen = new Set(incidents().map((each) => each.id));
  const news = () => incidents().filter((each) => !seen.has(each.id));

  const announce = () => {
    const fresh = news();
    const chip = document.getElementById("new-incidents");
    if (!chip) return;
    // Where nothing is shown there is nothing to disturb.
    if (fresh.length === incidents().length) for (const each of fresh.splice(0)) seen.add(each.id);
    for (const each of fresh) each.hidden = true;
    chip.hidden = !fresh.length;
    chip.textContent = `${fresh.length} new`;
    const place = document.getElementById("announce");
    const text = fresh.length ? `${fresh.length} new below What is wrong now` : "";
    if (place && place.dataset.news !== text) {
      place.dataset.news = text;
      place.textContent = text;
    }
  };
  document.addEventListener("htmx:afterSwap", announce);
  document.addEventListener("click", (event) => {
    if (!event.target.closest("#new-incidents")) return;
    const fresh = news();
    for (const each of fresh) {
      seen.add(each.id);
      each.hidden = false;
    }
    announce();
    if (fresh.length) fresh[0].querySelector("a").focus();
  });
})();
