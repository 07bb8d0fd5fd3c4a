// Search, filter, order, copying, the map, the matrix, arrow keys. Without scripts every page shows everything.
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
    // Whoever scrolls a table with the arrows does not want another page.
    if (document.activeElement.closest("input, select, textarea, .table-scroll")) return;
    const target = { ArrowLeft: "previous", ArrowRight: "following" }[event.key];
    const link = target && document.getElementById(target);
    if (link) link.click();
  });
}

// One stop for the Tab key; arrows go to the nearest tile in their direction.
function setUpMap() {
  const list = document.getElementById("map-tiles");
  if (!list) return;
  const tiles = [...list.querySelectorAll(".map-tile")];
  const info = document.getElementById("map-info");
  const [frame, title, looks, facts] = info.children;
  const picture = new Image();
  picture.alt = "";

  function show(tile) {
    tiles.forEach((other) => other.classList.toggle("current", other === tile));
    title.textContent = tile.dataset.title;
    looks.textContent = tile.dataset.looks;
    facts.textContent = tile.dataset.facts;
    if (tile.dataset.picture) {
      picture.src = tile.dataset.picture;
      frame.replaceChildren(picture);
    } else {
      frame.textContent = "no picture";
    }
    frame.classList.toggle("none", !tile.dataset.picture);
  }

  function nearest(from, dx, dy) {
    const x = Number(from.dataset.x);
    const y = Number(from.dataset.y);
    let best = null;
    let least = Infinity;
    for (const tile of tiles) {
      const along = (tile.dataset.x - x) * dx + (tile.dataset.y - y) * dy;
      const aside = Math.abs((tile.dataset.x - x) * dy) + Math.abs((tile.dataset.y - y) * dx);
      if (along > 0 && along + 2 * aside < least) {
        best = tile;
        least = along + 2 * aside;
      }
    }
    return best;
  }

  function makeStop(tile) {
    tiles.forEach((other) => { other.tabIndex = other === tile ? 0 : -1; });
  }

  for (const tile of tiles) {
    tile.addEventListener("pointerenter", () => show(tile));
    tile.addEventListener("focus", () => { makeStop(tile); show(tile); });
    tile.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      const target = nearest(tile, ...step);
      if (target) target.focus();
    });
  }
  makeStop(tiles[0]);
}

function setUpHeat() {
  const data = document.getElementById("heat-data");
  if (!data) return;
  const { names, rows, recognised } = JSON.parse(data.textContent);
  const area = document.getElementById("heat");
  const drawing = area.querySelector("svg");
  const cursor = document.getElementById("heat-cursor");
  const readout = document.getElementById("heat-readout");
  let row = 0;
  let column = 0;

  function moveTo(newRow, newColumn) {
    row = Math.min(names.length - 1, Math.max(0, newRow));
    column = Math.min(names.length - 1, Math.max(0, newColumn));
    cursor.setAttribute("x", column);
    cursor.setAttribute("y", row);
    cursor.setAttribute("visibility", "visible");
    const value = rows[row][column];
    const share = recognised[row][column];
    const what = row === column ? `${names[row]}, its own LoRA: ` : `LoRA of ${names[row]} against ${names[column]}: `;
    readout.textContent = value === null
      ? `${what}not compared`
      : `${what}cosine ${value.toFixed(3)}${share === null ? "" : `, ${Math.round(share * 100)} % recognised as it`}`;
  }

  drawing.addEventListener("pointermove", (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
    moveTo(Math.floor(point.y), Math.floor(point.x));
  });
  area.addEventListener("focus", () => moveTo(row, column));
  area.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    moveTo(row + step[0], column + step[1]);
    cursor.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

setUpCards();
setUpMap();
setUpHeat();
setUpCopying();
setUpArrows();
