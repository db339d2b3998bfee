// Keys: "/" for the search, Ctrl-K or Cmd-K for the list of places, "?" for the list of keys, arrows in menus, and
// Shift with a click on a second checkbox for all between. Every page works without this file.
"use strict";

const RECENT = 8;
const TYPED = "input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]";

let lastBox = null;

document.addEventListener("DOMContentLoaded", () => {
  const palette = document.getElementById("palette");
  if (!palette) return;
  rememberPlace(palette);
  const found = document.getElementById("palette-found");
  new MutationObserver(() => chooseOption(options()[0])).observe(found, { childList: true });
  const words = palette.querySelector("input");
  words.addEventListener("keydown", moveInPalette);
  words.addEventListener("input", () => {
    document.getElementById("palette-recent").hidden = words.value !== "";
  });
});

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest(TYPED);
  if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey) {
    const palette = document.getElementById("palette");
    if (!palette) return;
    event.preventDefault();
    openPalette(palette);
  } else if (event.ctrlKey || event.metaKey || event.altKey || isTyping || document.querySelector("dialog[open]")) {
    return;
  } else if (event.key === "/") {
    const search = document.getElementById("search");
    if (!search) return;
    event.preventDefault();
    search.focus();
  } else if (event.key === "?") {
    document.getElementById("keys")?.showModal();
  } else {
    moveInMenu(event);
  }
});

document.addEventListener("click", (event) => {
  const { target } = event;
  if (target.closest("[data-keys]")) document.getElementById("keys").showModal();
  if (target.matches("dialog")) target.close();
  if (!target.matches("tbody input[type=checkbox]")) return;
  const boxes = [...target.closest("tbody").querySelectorAll("input[type=checkbox]")];
  const ends = [boxes.indexOf(lastBox), boxes.indexOf(target)].sort((one, other) => one - other);
  if (event.shiftKey && ends[0] >= 0) {
    for (const box of boxes.slice(ends[0], ends[1] + 1)) box.checked = target.checked;
  }
  lastBox = target;
});

// The arrows in an open menu, or on the button that opens it.
function moveInMenu(event) {
  const menu = event.target.closest("details.menu");
  const steps = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };
  if (!menu || !(event.key in steps)) return;
  if (!menu.open && event.key !== "ArrowDown") return;
  event.preventDefault();
  menu.open = true;
  const items = [...menu.querySelectorAll(".sheet :is(a, button)")];
  const now = items.indexOf(document.activeElement);
  items[Math.min(Math.max(now + steps[event.key], 0), items.length - 1)]?.focus();
}

// ── The list of places ─────────────────────────────────────────────────────────────────────────────────────────────
function openPalette(palette) {
  if (palette.open) return;
  palette.showModal();
  showRecent(palette);
  const words = palette.querySelector("input");
  words.value = "";
  words.dispatchEvent(new Event("places"));
}

function options() {
  return [...document.querySelectorAll("#palette :not([hidden]) > [role=option]")];
}

function chooseOption(chosen) {
  for (const option of options()) option.setAttribute("aria-selected", option === chosen);
  const words = document.querySelector("#palette input");
  if (chosen) words.setAttribute("aria-activedescendant", chosen.id);
  else words.removeAttribute("aria-activedescendant");
  chosen?.scrollIntoView({ block: "nearest" });
}

function moveInPalette(event) {
  const shown = options();
  const now = shown.findIndex((option) => option.getAttribute("aria-selected") === "true");
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && shown.length) {
    event.preventDefault();
    chooseOption(shown[(now + step + shown.length) % shown.length]);
  } else if (event.key === "Enter" && now >= 0) {
    event.preventDefault();
    shown[now].click();
  }
}

// The last places of this person in this browser. A browser may refuse storage.
function recentPlaces(palette) {
  try {
    return JSON.parse(localStorage.getItem(palette.dataset.recent)) ?? [];
  } catch {
    return [];
  }
}

function rememberPlace(palette) {
  const here = palette.dataset.here;
  if (!here) return;
  const others = recentPlaces(palette).filter(({ name }) => name !== here);
  try {
    const kept = [{ name: here, path: palette.dataset.path }, ...others].slice(0, RECENT);
    localStorage.setItem(palette.dataset.recent, JSON.stringify(kept));
  } catch {
    // see recentPlaces
  }
}

function showRecent(palette) {
  const places = recentPlaces(palette).filter(({ name }) => name !== palette.dataset.here);
  const rows = places.map(({ name, path }, number) => {
    const row = document.createElement("a");
    row.href = new URL(path, document.baseURI).pathname;
    row.id = `recent-${number}`;
    row.textContent = name;
    row.role = "option";
    row.tabIndex = -1;
    return row;
  });
  const recent = document.getElementById("palette-recent");
  recent.replaceChildren(...rows);
  recent.hidden = rows.length === 0;
  if (rows.length) {
    const label = document.createElement("div");
    label.className = "label";
    label.textContent = recent.ariaLabel;
    recent.prepend(label);
  }
}
