// Search, filter, order, copying and arrow keys. Without scripts every page shows everything.
"use strict";

function setUpCards() {
  const list = document.getElementById("cards");
  if (!list) return;
  const cards = [...list.children];
  const search = document.getElementById("search");
  const sort = document.getElementById("sort");
  const filters = [...document.querySelectorAll(".filter")];
  const shownCount = document.getElementById("shown-count");
  const nothing = document.getElementById("nothing");
  const orders = {
    status: (a, b) => a.dataset.order - b.dataset.order,
    score: (a, b) => b.dataset.score - a.dataset.score,
    members: (a, b) => b.dataset.members - a.dataset.members,
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }),
  };

  function update() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = new Set(filters.filter((f) => f.getAttribute("aria-pressed") === "true").map((f) => f.dataset.status));
    let count = 0;
    for (const card of cards) {
      const text = card.dataset.text.toLowerCase();
      const isShown = words.every((word) => text.includes(word)) && (!wanted.size || wanted.has(card.dataset.status));
      card.hidden = !isShown;
      count += isShown ? 1 : 0;
    }
    shownCount.textContent = `${count} of ${cards.length} shown`;
    nothing.hidden = count > 0;
  }

  search.addEventListener("input", update);
  for (const filter of filters) {
    filter.addEventListener("click", () => {
      filter.setAttribute("aria-pressed", String(filter.getAttribute("aria-pressed") !== "true"));
      update();
    });
  }
  sort.addEventListener("change", () => list.append(...cards.sort(orders[sort.value])));
  document.getElementById("reset").addEventListener("click", () => {
    search.value = "";
    filters.forEach((filter) => filter.setAttribute("aria-pressed", "false"));
    update();
    search.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== search) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "Escape" && document.activeElement === search) {
      search.value = "";
      update();
    }
  });
  // A browser that goes back may have kept the field's text.
  update();
}

function setUpCopying() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const note = button.querySelector(".copy");
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        note.textContent = "copied";
      } catch {
        const range = document.createRange();
        range.selectNodeContents(button.querySelector("code"));
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        note.textContent = "press Ctrl+C";
      }
      setTimeout(() => { note.textContent = "copy"; }, 2000);
    });
  }
}

function setUpArrows() {
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
    const target = { ArrowLeft: "previous", ArrowRight: "following" }[event.key];
    const link = target && document.getElementById(target);
    if (link) link.click();
  });
}

setUpCards();
setUpCopying();
setUpArrows();
