// What HTML cannot do alone: copying, commands of another program, one submit a form, "/" for the search.
// Every page works without this file. It runs before the page is drawn, so that nothing moves when it has run.
"use strict";

const root = document.documentElement;
root.classList.add("is-scripted");
try {
  root.dataset.program = localStorage.getItem("program") || "docker";
} catch {
  root.dataset.program = "docker"; // the browser keeps nothing for anybody
}

function showProgram() {
  for (const button of document.querySelectorAll("[data-program][aria-pressed]")) {
    button.setAttribute("aria-pressed", button.dataset.program === root.dataset.program);
  }
}
document.addEventListener("DOMContentLoaded", () => {
  showProgram();
  const here = document.querySelector(".tabs [aria-current]"); // on a phone it may be beyond the edge
  if (here) here.parentElement.scrollLeft = here.offsetLeft - (here.parentElement.clientWidth - here.offsetWidth) / 2;
});

// Over plain HTTP a browser has no clipboard for scripts: then what is selected is copied.
async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "visually-hidden";
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  if (!isCopied) throw new Error("nothing was copied");
}

document.addEventListener("click", (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    copyText(copy.dataset.copy).then(() => {
      if (copy.classList.contains("is-copied")) return;
      const title = copy.title;
      copy.classList.add("is-copied");
      copy.title = document.body.dataset.copied;
      setTimeout(() => {
        copy.classList.remove("is-copied");
        copy.title = title;
      }, 1500);
    });
    return;
  }
  const program = event.target.closest("button[data-program]");
  if (program) {
    root.dataset.program = program.dataset.program;
    showProgram();
    localStorage.setItem("program", program.dataset.program);
    return;
  }
  const closer = event.target.closest("[data-close]");
  if (closer) {
    closer.closest(".toast").remove();
    return;
  }
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const search = document.getElementById("search");
    if (search) {
      event.preventDefault();
      search.focus();
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
  setTimeout(() => delete form.dataset.sent, 5000);
});

document.addEventListener("change", (event) => {
  const all = event.target.closest("[data-check-all]");
  if (all) {
    for (const box of all.closest("form").querySelectorAll("tbody input[type=checkbox]")) box.checked = all.checked;
  }
  const form = event.target.closest("form");
  const count = form && form.querySelector("[data-checked-count]");
  if (count) count.textContent = form.querySelectorAll("tbody input[type=checkbox]:checked").length;
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});
