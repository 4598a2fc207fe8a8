"use strict";
// Without this script all rows, numbers and segments are there; it sorts and shows reconstructions.

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];

  function sort(column, kind, sign) {
    const value = (row) => {
      const text = row.cells[column].dataset.value;
      return kind === "text" ? text.toLowerCase() : text === "" ? NaN : Number(text);
    };
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (kind === "text") return sign * x.localeCompare(y);
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return sign * (x - y);
    };
    body.replaceChildren(...[...body.rows].sort(compare));
  }
  heads.forEach((head, column) => {
    const button = head.querySelector("[data-sort]");
    if (!button) return;
    button.addEventListener("click", () => {
      const kind = button.dataset.sort, now = head.getAttribute("aria-sort");
      const first = kind === "text" ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const next = now === first ? other : first;
      for (const h of heads) if (h.hasAttribute("aria-sort")) h.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", next);
      sort(column, kind, next === "ascending" ? 1 : -1);
    });
  });
}

document.querySelectorAll(".arena").forEach(sortable);
document.querySelectorAll(".flip").forEach((button) => button.addEventListener("click", () => {
  button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
}));
