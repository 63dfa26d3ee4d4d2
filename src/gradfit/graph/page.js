"use strict";
const film = JSON.parse(document.getElementById("film").textContent);
const stage = document.getElementById("stage");
const details = document.getElementById("details");
const slider = document.getElementById("frame");
const label = document.getElementById("label");
const legend = details.innerHTML;
let frame = 0, chosen = -1, view = {x: 0, y: 0, k: 1};

const cards = () => [...stage.querySelectorAll(".card")];
const links = () => [...stage.querySelectorAll(".link")];

function reach(start, forward) {
  const seen = new Set([start]), open = [start];
  while (open.length) {
    const at = String(open.pop());
    for (const link of links()) {
      const here = forward ? link.dataset.from : link.dataset.to;
      const there = Number(forward ? link.dataset.to : link.dataset.from);
      if (here === at && !seen.has(there)) { seen.add(there); open.push(there); }
    }
  }
  return seen;
}

function highlight(index) {
  stage.classList.toggle("focus", index >= 0);
  if (index < 0) return;
  const near = new Set([...reach(index, true), ...reach(index, false)]);
  for (const card of cards()) card.classList.toggle("near", near.has(Number(card.dataset.card)));
  for (const link of links()) {
    const ends = [Number(link.dataset.from), Number(link.dataset.to)];
    link.classList.toggle("near", ends.every(end => near.has(end)));
  }
}

function row(name, text) {
  const term = document.createElement("dt"), value = document.createElement("dd");
  term.textContent = name; value.textContent = text;
  return [term, value];
}

function choose(index, move) {
  chosen = index;
  for (const card of cards()) {
    const here = Number(card.dataset.card) === index;
    card.classList.toggle("chosen", here);
    card.setAttribute("aria-pressed", here);
  }
  const told = film.frames[frame].cards[index];
  if (!told) { details.innerHTML = legend; return; }
  details.replaceChildren();
  const head = document.createElement("h2"), list = document.createElement("dl");
  head.textContent = told.title;
  for (const [name, text] of told.rows) list.append(...row(name, text));
  details.append(head, list);
  if (move) {
    const card = cards().find(c => Number(c.dataset.card) === index);
    if (card) { card.focus({preventScroll: true}); centre(card); }
  }
}

// A step forward computes the next card from those above it; a step back takes the gradient from
// those below. What has not had its turn yet is faint.
function step(by) {
  const told = film.frames[frame].cards, n = told.length;
  let at = chosen < 0 ? (by > 0 ? -1 : n) : chosen;
  do { at = (at + by + n) % n; } while (by < 0 && !told[at].grad && told.some(card => card.grad));
  choose(at, true);
  highlight(-1);
  pass(by, at);
}
function pass(by, at) {
  stage.classList.toggle("ahead", by > 0);
  stage.classList.toggle("astern", by < 0);
  for (const card of cards()) card.classList.toggle("later", by * (Number(card.dataset.card) - at) > 0);
  for (const link of links()) {
    const from = Number(link.dataset.from), to = Number(link.dataset.to);
    link.classList.toggle("now", by > 0 ? to === at : by < 0 && from === at && !link.classList.contains("dry"));
    link.classList.toggle("later", by > 0 ? to > at : by < 0 && from < at);
  }
}
function leave() { pass(0, -1); choose(-1, false); highlight(-1); }

function draw() {
  const now = film.frames[frame], group = stage.querySelector("#drawing");
  if (Number(group.dataset.base) !== now.base) {
    group.innerHTML = film.frames[now.base].body;
    group.dataset.base = now.base;
    pass(0, -1);
  }
  if (now.texts) {
    cards().forEach((card, i) => card.querySelectorAll("text").forEach((line, j) => { line.textContent = now.texts[i][j] ?? ""; }));
    for (const part of stage.querySelectorAll(".part")) {
      const text = now.parts[part.dataset.link] ?? "", ground = part.previousElementSibling, wide = 6.4 * text.length + 6;
      part.textContent = text;
      ground.setAttribute("width", wide);
      ground.setAttribute("x", part.getAttribute("x") - wide / 2);
    }
  }
  for (const card of cards()) {
    const lines = [...card.querySelectorAll("text")].map(line => line.textContent);
    card.setAttribute("aria-label", lines.filter(Boolean).join(", "));
  }
  label.textContent = now.label + (now.changed ? " · the structure changed here" : "");
  slider.setAttribute("aria-valuetext", label.textContent);
  listen();
  if (chosen >= 0) choose(Math.min(chosen, now.cards.length - 1), false);
}

function listen() {
  for (const card of cards()) {
    const index = Number(card.dataset.card);
    card.onmouseenter = card.onfocus = () => highlight(index);
    card.onmouseleave = card.onblur = () => highlight(-1);
    card.onclick = () => { pass(0, -1); choose(index, false); };
    card.onkeydown = event => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(index, false); }
    };
  }
}

function apply() {
  stage.querySelector("#camera").setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
}
function zoom(factor, x, y) {
  const k = Math.min(4, Math.max(0.1, view.k * factor)), f = k / view.k;
  view = {x: x - f * (x - view.x), y: y - f * (y - view.y), k};
  apply();
}
function fit(least) {
  const box = stage.getBoundingClientRect();
  const k = Math.max(least, Math.min(1.4, box.width / film.width, box.height / film.height));
  view = {x: (box.width - k * film.width) / 2, y: Math.max(0, (box.height - k * film.height) / 2), k};
  apply();
  const first = cards()[0];
  if (first && film.width * k > box.width) centre(first);
}
const whole = () => fit(0), readable = () => fit(0.6);
const middle = factor => { const box = stage.getBoundingClientRect(); zoom(factor, box.width / 2, box.height / 2); };
function centre(card) {
  const box = card.getBoundingClientRect(), room = stage.getBoundingClientRect();
  if (box.left < room.left || box.right > room.right) view.x += (room.left + room.right - box.left - box.right) / 2;
  if (box.top < room.top || box.bottom > room.bottom) view.y += (room.top + room.bottom - box.top - box.bottom) / 2;
  apply();
}

stage.addEventListener("wheel", event => {
  event.preventDefault();
  const box = stage.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY / 500), event.clientX - box.left, event.clientY - box.top);
}, {passive: false});
let grip = null;
stage.addEventListener("pointerdown", event => { grip = {x: event.clientX - view.x, y: event.clientY - view.y}; });
window.addEventListener("pointermove", event => {
  if (grip) { view.x = event.clientX - grip.x; view.y = event.clientY - grip.y; apply(); }
});
window.addEventListener("pointerup", () => { grip = null; });
document.getElementById("forward").onclick = () => step(1);
document.getElementById("backward").onclick = () => step(-1);
document.getElementById("fit").onclick = whole;
document.getElementById("closer").onclick = () => middle(1.25);
document.getElementById("farther").onclick = () => middle(0.8);
document.getElementById("theme").onclick = () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
};
slider.oninput = () => { frame = Number(slider.value); draw(); };
document.addEventListener("keydown", event => {
  if (event.target === slider) return;
  const keys = {ArrowRight: () => step(1), ArrowLeft: () => step(-1), "+": () => middle(1.25), "-": () => middle(0.8), 0: whole, Escape: leave};
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
window.addEventListener("resize", readable);
draw();
readable();
