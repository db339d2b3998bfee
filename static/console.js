// What HTML cannot do alone: copy text, show the commands of one program, count characters, send a form once, ask a question over the page.
// keyboard.js has the keys.
// Every page works without this file. It runs before the page is drawn, so that nothing moves afterwards.
"use strict";

const COPIED_MILLISECONDS = 1500;
const TOAST_MILLISECONDS = 100;
const SENT_MILLISECONDS = 5000;
const CHECKBOXES = "tbody input[type=checkbox]";

const root = document.documentElement;
root.classList.add("is-scripted");
root.dataset.program = savedProgram() ?? "docker";

// The server writes times in the zone of the browser, unless the profile has one (console/middleware.py).
const { timeZone } = new Intl.DateTimeFormat().resolvedOptions();
const secure = location.protocol === "https:" ? "; secure" : "";
if (timeZone) document.cookie = `kcr_zone=${timeZone}; path=/; max-age=31536000; samesite=lax${secure}`;

document.addEventListener("DOMContentLoaded", () => {
  pressProgram();
  sayToasts();
  const tab = document.querySelector(".tabs [aria-current]");
  // On a phone the tab of this page may lie outside of the screen.
  if (tab) tab.parentElement.scrollLeft = tab.offsetLeft - (tab.parentElement.clientWidth - tab.offsetWidth) / 2;
});

document.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-copy], [data-close], button[data-program]");
  if (button?.dataset.copy !== undefined) copy(button);
  else if (button?.dataset.close !== undefined) button.closest(".toast").remove();
  else if (button) chooseProgram(button.dataset.program);
  for (const menu of openMenus()) menu.open = menu.contains(target);
});

// A link to a page with a question. Without scripts, or in another tab, the link opens that page.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-dialog], [data-close-dialog]");
  const dialog = event.target.closest("dialog");
  if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (link?.dataset.dialog !== undefined) {
    event.preventDefault();
    openDialog(link.href);
  } else if (dialog && (link || event.target === dialog)) {
    event.preventDefault();
    dialog.close();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const menu of openMenus()) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
  setTimeout(() => delete form.dataset.sent, SENT_MILLISECONDS);
});

document.addEventListener("change", ({ target }) => {
  const form = target.form;
  if (!form) return;
  if (target.matches("[data-check-all]")) {
    for (const box of form.querySelectorAll(CHECKBOXES)) box.checked = target.checked;
  }
  const count = form.querySelector("[data-checked-count]");
  if (count) count.textContent = form.querySelectorAll(`${CHECKBOXES}:checked`).length;
  if (target.matches("[data-submit]")) form.requestSubmit();
});

// How many characters a text has, in the help below it. Python counts an emoji as one, too.
document.addEventListener("input", ({ target }) => {
  if (!target.matches("[data-counted]")) return;
  const count = target.parentElement.querySelector("[data-count]");
  count.textContent = new Intl.NumberFormat(root.lang).format([...target.value].length);
});

// A screen reader reads what is added to a live region, not what is in it when the page comes.
function sayToasts() {
  const region = document.querySelector(".toasts");
  const toasts = [...region.children];
  region.replaceChildren();
  setTimeout(() => region.append(...toasts), TOAST_MILLISECONDS);
}

function say(words) {
  const region = document.getElementById("said");
  region.textContent = "";
  setTimeout(() => {
    region.textContent = words;
  }, TOAST_MILLISECONDS);
}

async function openDialog(address) {
  const answer = await fetch(address);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const question = page.querySelector("[data-question]");
  if (!question) {
    location.assign(address); // the sign-in page, or an error
    return;
  }
  const dialog = document.getElementById("dialog");
  dialog.replaceChildren(question);
  dialog.showModal();
}

function openMenus() {
  return document.querySelectorAll("details.menu[open]");
}

// A browser may refuse storage: then the choice lasts for this page.
function savedProgram() {
  try {
    return localStorage.getItem("program");
  } catch {
    return null;
  }
}

function chooseProgram(program) {
  root.dataset.program = program;
  pressProgram();
  try {
    localStorage.setItem("program", program);
  } catch {
    // see savedProgram
  }
}

function pressProgram() {
  for (const button of document.querySelectorAll("button[data-program]")) {
    button.setAttribute("aria-pressed", button.dataset.program === root.dataset.program);
  }
}

async function copy(button) {
  await writeText(button.dataset.copy);
  if (button.classList.contains("is-copied")) return;
  const { title } = button;
  button.classList.add("is-copied");
  button.title = document.body.dataset.copied;
  say(document.body.dataset.copied);
  setTimeout(() => {
    button.classList.remove("is-copied");
    button.title = title;
  }, COPIED_MILLISECONDS);
}

// Browsers offer navigator.clipboard over HTTPS only. Over HTTP the text of a selected field is copied.
async function writeText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "visually-hidden";
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  if (!isCopied) throw new Error("nothing was copied");
}
