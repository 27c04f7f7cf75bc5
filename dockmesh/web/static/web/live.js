// Parts of a page that refresh themselves, and what the page says while they can't. Without this file they stand still.
(() => {
  "use strict";

  // Milliseconds without a good answer after which the page says so; of a page that was asleep, since it woke.
  const LATE = 8500;
  const LATE_AFTER_WAKING = 4000;
  // How long a selection holds a refresh back: who marks a text wants to keep it, but not for good.
  const SELECTION_HOLDS = 10000;
  const SLEPT = 5000;

  const notice = document.getElementById("lost");
  if (!notice) return;
  const words = notice.querySelector("[data-lost-words]");
  const signIn = notice.querySelector("a");

  const parts = () => document.querySelectorAll("[data-live]");
  const partOf = (event) => event.target.closest("[data-live]");

  let heardAt = Date.now();
  let wokenAt = heardAt;
  let tickedAt = heardAt;
  let selectedAt = 0;
  let lost = "";

  // ---- what is not known any more is not claimed: a pill says what it was ----

  const claims = new Map();
  const claim = (node, text) => {
    if (claims.has(node)) return;
    claims.set(node, node.data);
    node.data = text;
  };
  const withdraw = () => {
    for (const part of parts()) {
      part.setAttribute("data-stale", "");
      for (const element of part.querySelectorAll("[data-claim]")) {
        if (element.lastChild) claim(element.lastChild, "Not known now");
      }
      for (const pill of part.querySelectorAll(".pill, .legend a")) {
        const text = pill.lastChild;
        if (text && text.data.trim()) claim(text, `${pill.matches(".pill") ? "was" : "were"} ${text.data.trim().toLowerCase()}`);
      }
    }
    document.dispatchEvent(new Event("dockmesh:tick"));
  };
  const restore = () => {
    for (const [node, text] of claims) node.data = text;
    claims.clear();
    for (const part of document.querySelectorAll("[data-stale]")) part.removeAttribute("data-stale");
    document.dispatchEvent(new Event("dockmesh:tick"));
  };

  // ---- lost and found ----

  const clock = (moment) => new Date(moment).toLocaleTimeString("en-GB");
  const isTyped = () =>
    [...document.querySelectorAll("main textarea, main input:not([type=hidden])")].some((field) =>
      ["checkbox", "radio"].includes(field.type) ? field.checked !== field.defaultChecked : field.value !== field.defaultValue,
    );
  const lose = (why, text) => {
    withdraw();
    if (lost === why) return;
    lost = why;
    words.textContent = text;
    signIn.hidden = why !== "session";
    if (why === "session") {
      signIn.search = new URLSearchParams({ next: location.pathname + location.search });
      signIn.target = isTyped() ? "_blank" : "";
    }
    notice.hidden = false;
  };
  const silent = () =>
    lose("silent", `The server does not answer. This page shows what was so at ${clock(heardAt)}; it goes on by itself when the server is back.`);
  const refused = (status) => {
    const what =
      { 403: "Your role does not allow this page any more.", 404: "What this page shows is not there any more." }[status] ||
      `The server answers with an error (${status}); this page goes on by itself when that is over.`;
    lose(`status ${status}`, `${what} It shows what was so at ${clock(heardAt)}.`);
  };
  const found = () => {
    heardAt = Date.now();
    restore();
    lost = "";
    notice.hidden = true;
  };

  const wake = () => {
    wokenAt = tickedAt = Date.now();
    if (wokenAt - heardAt > LATE) withdraw();
    for (const part of parts()) part.dispatchEvent(new Event("wake"));
  };
  setInterval(() => {
    if (document.hidden) return;
    const now = Date.now();
    if (now - tickedAt > SLEPT) wake();
    tickedAt = now;
    if (!parts().length) {
      if (lost) found();
    } else if (!lost && now - heardAt > LATE && now - wokenAt > LATE_AFTER_WAKING) silent();
  }, 1000);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) wake();
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted) wake();
  });
  addEventListener("online", wake);

  // ---- what htmx tells ----

  document.addEventListener("selectionchange", () => {
    selectedAt = Date.now();
  });
  const isSelectedIn = (part) => {
    const selection = getSelection();
    const isMarked = selection && !selection.isCollapsed && part.contains(selection.anchorNode);
    return isMarked && Date.now() - selectedAt < SELECTION_HOLDS;
  };
  const isElsewhere = (xhr, event) => {
    const came = new URL(xhr.responseURL || location.href);
    const asked = new URL(event.detail.pathInfo.requestPath, location.href);
    return came.origin === location.origin && came.pathname !== asked.pathname ? came : null;
  };
  // What was chosen in a list stays chosen when the list refreshes itself.
  const chosenIn = new WeakMap();

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (partOf(event) && document.hidden) event.preventDefault();
  });
  for (const name of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, (event) => {
      if (partOf(event)) silent();
    });
  }
  document.addEventListener("htmx:beforeSwap", (event) => {
    const part = partOf(event);
    if (!part) return;
    const { xhr } = event.detail;
    if (xhr.status !== 200) {
      event.detail.shouldSwap = false;
      refused(xhr.status);
      return;
    }
    if (!xhr.getResponseHeader("X-Dockmesh-Part")) {
      event.detail.shouldSwap = false;
      const came = isElsewhere(xhr, event);
      if (!came) lose("stranger", `Something else than dockmesh answers here. This page shows what was so at ${clock(heardAt)}.`);
      else if (came.pathname !== signIn.pathname) location.reload();
      else lose("session", `Your session has ended. This page shows what was so at ${clock(heardAt)}.`);
      return;
    }
    found();
    if (isSelectedIn(part)) event.detail.shouldSwap = false;
    else chosenIn.set(part, [...part.querySelectorAll("input[type=checkbox]:checked")].map((box) => box.id));
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    const part = partOf(event);
    for (const id of (part && chosenIn.get(part)) || []) {
      const box = document.getElementById(id);
      if (box) box.checked = true;
    }
  });
})();
