"use strict";
// Without this script all pictures and numbers are there; it moves, sorts and enlarges them.

const byId = (id) => document.getElementById(id);

function play(section) {
  const slider = section.querySelector(".step"), button = section.querySelector(".play");
  const names = section.dataset.names.split("|");
  const dots = [...section.querySelectorAll(".dot")];
  let timer = 0;

  function show(step) {
    slider.value = step;
    slider.setAttribute("aria-valuetext", names[step]);
    section.querySelector(".step-name").textContent = names[step];
    section.style.setProperty("--step", step);
    for (const dot of dots) {
      const heights = dot.dataset.heights.split(" ");
      const height = heights[step - (names.length - heights.length)];
      dot.hidden = height === undefined;
      dot.style.top = `${height}%`;
    }
  }
  function stop() {
    clearTimeout(timer);
    timer = 0;
    button.textContent = "Play";
  }
  function advance() {
    const last = names.length - 1, step = Number(slider.value);
    show(step === last ? 0 : step + 1);
    const next = Number(slider.value);
    timer = setTimeout(advance, next === last ? 1800 : next === 0 ? 900 : 500);
  }
  button.addEventListener("click", () => {
    if (timer) return stop();
    button.textContent = "Pause";
    advance();
  });
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  show(Number(slider.value));  // browsers keep a slider's place over a reload
}

function gallery() {
  const cards = byId("cards"), sort = byId("sort"), outlines = byId("outlines"), zoom = byId("zoom");
  let current = null;

  function value(card, name) {
    const text = card.getAttribute(`data-${name.replaceAll("_", "-")}`);
    return text === "" ? NaN : Number(text);
  }
  function reorder() {
    const [name, sign] = sort.value.split(" ");
    const key = (card) => { const v = value(card, name); return Number.isNaN(v) ? Infinity : v * sign; };
    const ordered = [...cards.children].sort((a, b) => key(a) - key(b));
    cards.replaceChildren(...ordered);
  }
  function enlarge(card) {
    current = card;
    const [image, truth, prediction] = card.querySelectorAll(".panel");
    const plain = image.cloneNode(true);
    plain.querySelector(".outline")?.remove();
    const parts = [[plain, "image"], [image, "image, predicted outlines"], [truth, "truth"],
      [prediction, "prediction, true outlines"]];
    const figures = parts.map(([panel, name]) => {
      const figure = document.createElement("figure"), caption = document.createElement("figcaption");
      caption.textContent = name;
      figure.append(panel.cloneNode(true), caption);
      figure.className = "zoomed";
      return figure;
    });
    zoom.querySelector(".panels").replaceChildren(...figures);
    const words = [...card.querySelectorAll("figcaption > *")].map((part) => part.textContent);
    zoom.querySelector(".caption").textContent = words.join(" · ");
    if (!zoom.open) zoom.showModal();
  }
  function go(by) {
    if (by === 0) return zoom.close();
    const all = [...cards.children];
    enlarge(all[(all.indexOf(current) + by + all.length) % all.length]);
  }
  sort.addEventListener("change", reorder);
  outlines.addEventListener("change", () => cards.classList.toggle("outlined", outlines.checked));
  cards.addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (card) enlarge(card);
  });
  zoom.addEventListener("click", (event) => {
    if (event.target === zoom) return zoom.close();
    const button = event.target.closest("[data-go]");
    if (button) go(Number(button.dataset.go));
  });
  zoom.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") go(1);
    if (event.key === "ArrowLeft") go(-1);
  });
  zoom.addEventListener("close", () => current.querySelector("button").focus());
  reorder();
  cards.classList.toggle("outlined", outlines.checked);
}

document.querySelectorAll(".moving").forEach(play);
if (byId("cards")) gallery();
addEventListener("beforeprint", () => document.querySelectorAll(".strips").forEach((d) => { d.open = true; }));
