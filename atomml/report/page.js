/* Tables that sort by a click on a heading; long ones come in pages and can be filtered. */
"use strict";
(function () {
  const PAGE_ROWS = 100;

  /** The number that a cell's text begins with; NaN for a dash or a word. */
  function numberOf(text) {
    if (text === "∞") return Infinity;
    if (text === "-∞") return -Infinity;
    return parseFloat(text.replace(/,/g, ""));
  }

  /** Order of two cells; upwards for sign 1, downwards for -1. What is no number comes last in both. */
  function compare(a, b, numeric, sign) {
    if (!numeric) return sign * a.localeCompare(b, "en", { numeric: true });
    const x = numberOf(a), y = numberOf(b);
    if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y));
    return sign * (x < y ? -1 : Number(x > y));
  }

  class Table {
    constructor(place) {
      this.body = place.querySelector("tbody");
      this.headings = [...place.querySelectorAll("th")];
      this.numeric = [...place.dataset.numeric].map((flag) => flag === "1");
      const source = place.querySelector("script");
      this.rows = source
        ? JSON.parse(source.textContent)
        : [...this.body.rows].map((row) => [...row.cells].map((cell) => cell.textContent));
      this.shown = this.rows;
      this.first = 0;
      this.headings.forEach((heading, column) => {
        heading.querySelector("button").addEventListener("click", () => this.sort(column));
      });
      if (source) this.addPager(place);
    }

    sort(column) {
      const heading = this.headings[column];
      const descending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of this.headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const sign = descending ? -1 : 1;
      this.rows = this.rows.slice().sort((a, b) => compare(a[column], b[column], this.numeric[column], sign));
      this.filter();
    }

    filter() {
      const words = this.box ? this.box.value.toLowerCase() : "";
      this.shown = words ? this.rows.filter((row) => row.some((cell) => cell.toLowerCase().includes(words))) : this.rows;
      this.first = 0;
      this.show();
    }

    show() {
      const page = this.shown.slice(this.first, this.first + PAGE_ROWS);
      this.body.replaceChildren(
        ...page.map((row) => {
          const line = document.createElement("tr");
          row.forEach((text, column) => {
            const cell = line.insertCell();
            cell.textContent = text;
            if (this.numeric[column]) cell.className = "n";
          });
          return line;
        })
      );
      if (!this.where) return;
      const last = Math.min(this.first + PAGE_ROWS, this.shown.length);
      const range = this.shown.length ? `${this.first + 1}–${last} of ` : "";
      this.where.textContent = range + this.shown.length.toLocaleString("en") + " rows";
    }

    addPager(place) {
      const bar = document.createElement("div");
      bar.className = "controls";
      const step = (text, label, rows) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = text;
        button.setAttribute("aria-label", label);
        button.addEventListener("click", () => {
          const next = this.first + rows;
          if (next >= 0 && next < this.shown.length) this.first = next;
          this.show();
        });
        return button;
      };
      this.where = document.createElement("span");
      this.box = document.createElement("input");
      this.box.type = "search";
      this.box.placeholder = "Filter rows";
      this.box.setAttribute("aria-label", "Filter rows");
      this.box.addEventListener("input", () => this.filter());
      bar.append(this.box, step("‹", "Previous rows", -PAGE_ROWS), step("›", "Next rows", PAGE_ROWS), this.where);
      place.prepend(bar);
      this.show();
    }
  }

  for (const place of document.querySelectorAll(".table")) new Table(place);
})();
