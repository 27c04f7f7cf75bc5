// Reads a container's log: shows its last lines at once, follows, pauses. Without this file the form shows them.
(() => {
  "use strict";

  const card = document.querySelector("[data-log]");
  if (!card || !window.fetch) return;
  const form = card.querySelector("form");
  const lines = card.querySelector("[data-log-lines]");
  const state = card.querySelector("[data-log-state]");
  const followButton = card.querySelector("[data-log-follow]");
  const pauseButton = card.querySelector("[data-log-pause]");
  const MOST_CHARACTERS = 2000000; // the page keeps the last of them
  const QUICK = 200;
  const SLOW = 1000;
  let reading = 0; // which reading this is; an older one ends
  let held = ""; // came while paused
  let isPaused = false;

  const say = (text) => { state.textContent = text; };
  const press = (button, isPressed) => button.setAttribute("aria-pressed", String(isPressed));

  const show = (text) => {
    if (!text) return;
    if (isPaused) {
      held = (held + text).slice(-MOST_CHARACTERS);
      return;
    }
    // Who reads further up is not pulled down.
    const isAtEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
    lines.append(text);
    if (lines.childNodes.length > 200) lines.normalize();
    if (lines.textContent.length > MOST_CHARACTERS) lines.textContent = lines.textContent.slice(-MOST_CHARACTERS / 2);
    if (isAtEnd) lines.scrollTop = lines.scrollHeight;
  };

  const ask = async (url, options) => {
    const answer = await fetch(url, { headers: { Accept: "application/json" }, redirect: "manual", ...options });
    if (answer.type === "opaqueredirect") {
      location.reload(); // signed out meanwhile
      throw new Error("signed out");
    }
    return answer.json();
  };

  const read = async (isFollowing) => {
    const mine = ++reading;
    const data = new FormData(form);
    data.set("csrfmiddlewaretoken", card.dataset.csrf);
    if (isFollowing) data.set("follow", "true");
    lines.textContent = held = "";
    isPaused = false;
    press(pauseButton, false);
    press(followButton, isFollowing);
    pauseButton.hidden = !isFollowing;
    lines.setAttribute("aria-busy", "true");
    say("Asking the host …");
    let after = 0;
    let pause = QUICK;
    let failures = 0;
    let opened;
    try {
      opened = await ask(card.dataset.log, { method: "POST", body: data });
    } catch {
      opened = { error: "The server does not answer." };
    }
    while (mine === reading && opened.url) {
      let found;
      try {
        found = await ask(`${opened.url}?after=${after}`);
        failures = 0;
      } catch {
        failures += 1;
        if (failures > 10) found = { is_ended: true, error: "The server does not answer." };
        else say("The server does not answer …");
      }
      if (mine !== reading) return;
      if (found) {
        after = found.next ?? after;
        show(found.text);
        if (found.is_ended) {
          opened = { error: found.error || "" };
          break;
        }
        if (found.text) {
          say(isFollowing ? (isPaused ? "Paused" : "Following") : "");
          pause = QUICK;
        } else {
          if (isFollowing && after) say(isPaused ? "Paused" : "Following");
          pause = Math.min(pause * 1.5, SLOW);
        }
      }
      await new Promise((done) => setTimeout(done, failures ? SLOW : pause));
    }
    if (mine !== reading) return;
    lines.removeAttribute("aria-busy");
    press(followButton, false);
    pauseButton.hidden = true;
    const nothing = isFollowing ? "There is no more to follow: the container has ended." : "";
    say(opened.error || nothing || (lines.textContent ? "" : "It has written nothing that fits."));
  };

  form.addEventListener("submit", (event) => {
    if (event.submitter && event.submitter.name === "as") return;
    event.preventDefault();
    read(false);
  });
  followButton.addEventListener("click", () => {
    read(followButton.getAttribute("aria-pressed") !== "true");
  });
  pauseButton.addEventListener("click", () => {
    isPaused = !isPaused;
    press(pauseButton, isPaused);
    say(isPaused ? "Paused" : "Following");
    if (!isPaused) {
      const text = held;
      held = "";
      show(text);
    }
  });
  followButton.hidden = false;
  // A page that shows lines already was asked for them.
  if (!lines.textContent) read(false);
})();
