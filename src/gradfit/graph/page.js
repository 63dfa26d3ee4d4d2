"use strict";
const film = JSON.parse(document.getElementById("film").textContent);
const stage = document.getElementById("stage");
const details = document.getElementById("details");
const slider = document.getElementById("frame");
const label = document.getElementById("label");
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
  for (const card of cards()) card.classList.toggle("chosen", Number(card.dataset.card) === index);
  details.replaceChildren();
  const told = film.frames[frame].cards[index];
  if (!told) return;
  const head = document.createElement("h2"), list = document.createElement("dl");
  head.textContent = told.title;
  for (const [name, text] of told.rows) list.append(...row(name, text));
  details.append(head, list);
  if (move) {
    const card = cards().find(c => Number(c.dataset.card) === index);
    if (card) { card.focus({preventScroll: true}); centre(card); }
  }
}

function draw() {
  const now = film.frames[frame];
  const group = stage.querySelector("#drawing");
  if (now.body !== undefined) group.innerHTML = now.body;
  else if (film.frames[group.dataset.base || 0].body === undefined || Number(group.dataset.base || 0) !== now.base)
    group.innerHTML = film.frames[now.base].body;
  group.dataset.base = now.base;
  if (now.texts) {
    cards().forEach((card, i) => [...card.querySelectorAll("text")].forEach((line, j) => {
      if (now.texts[i] && now.texts[i][j] !== undefined) line.textContent = now.texts[i][j];
    }));
    for (const part of stage.querySelectorAll(".part")) part.textContent = now.parts[part.dataset.link] ?? "";
  }
  label.textContent = now.label + (now.changed ? " · the structure changed here" : "");
  listen();
  if (chosen >= 0) choose(Math.min(chosen, now.cards.length - 1), false);
}

function listen() {
  for (const card of cards()) {
    const index = Number(card.dataset.card);
    card.onmouseenter = card.onfocus = () => highlight(index);
    card.onmouseleave = card.onblur = () => highlight(-1);
    card.onclick = () => choose(index, false);
    card.onkeydown = event => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(index, false); }
    };
  }
}

function step(by) {
  const n = film.frames[frame].cards.length;
  choose(chosen < 0 ? (by > 0 ? 0 : n - 1) : (chosen + by + n) % n, true);
}

function apply() {
  stage.querySelector("#camera").setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
}
function zoom(factor, x, y) {
  const k = Math.min(4, Math.max(0.1, view.k * factor)), f = k / view.k;
  view = {x: x - f * (x - view.x), y: y - f * (y - view.y), k};
  apply();
}
function fit() {
  const box = stage.getBoundingClientRect();
  const k = Math.min(1.4, box.width / film.width, box.height / film.height);
  view = {x: (box.width - k * film.width) / 2, y: Math.max(0, (box.height - k * film.height) / 2), k};
  apply();
}
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
document.getElementById("fit").onclick = fit;
document.getElementById("theme").onclick = () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
};
slider.oninput = () => { frame = Number(slider.value); draw(); };
document.addEventListener("keydown", event => {
  if (event.target === slider) return;
  const keys = {ArrowRight: () => step(1), ArrowLeft: () => step(-1), "+": () => zoom(1.2, 300, 200), "-": () => zoom(1 / 1.2, 300, 200), 0: fit};
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
window.addEventListener("resize", fit);
draw();
fit();
