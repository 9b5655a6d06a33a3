/* A screen's rows as a histogram, a scatter of any two columns, and the row under the mouse.
 *
 * One <div class="explorer"> holds the columns as JSON (see explorer.py). A click on a point, or on a line
 * of the table below it, shows the row's values and moves the page's viewer to its structure.
 */
"use strict";
(function () {
  const MARGIN = { left: 74, right: 12, top: 10, bottom: 44 };
  const REACH = 12; // pixels within which a point is pointed at
  const BINS = 40;

  function element(tag, properties, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  }

  const isNumber = (value) => typeof value === "number";
  const titled = (column) => (column.unit ? `${column.label} (${column.unit})` : column.label);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim() || "#888";

  function extent(values) {
    let low = Infinity, high = -Infinity;
    for (const value of values) {
      if (!isNumber(value)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    if (low === high) return [low - 0.5, high + 0.5];
    return low < high ? [low, high] : [0, 1];
  }

  /** Round steps of 1, 2 or 5 times a power of ten: about five of them. */
  function ticks(low, high) {
    const rough = (high - low) / 5, power = Math.pow(10, Math.floor(Math.log10(rough)));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const found = [];
    for (let n = Math.ceil(low / step); n * step <= high; n++) found.push(n * step);
    return found;
  }

  /** A canvas with two axes; draws in CSS pixels whatever the screen's density. */
  class Frame {
    constructor(label) {
      this.canvas = element("canvas", { role: "img", "aria-label": label, tabIndex: 0 });
      this.context = this.canvas.getContext("2d");
    }

    begin(x, y, xTitle, yTitle) {
      const box = this.canvas.getBoundingClientRect(), density = window.devicePixelRatio || 1;
      this.width = box.width || 600;
      this.height = box.height || 360;
      this.canvas.width = Math.round(this.width * density);
      this.canvas.height = Math.round(this.height * density);
      this.context.setTransform(density, 0, 0, density, 0, 0);
      this.context.clearRect(0, 0, this.width, this.height);
      const across = this.width - MARGIN.left - MARGIN.right, down = this.height - MARGIN.top - MARGIN.bottom;
      this.x = (value) => MARGIN.left + (across * (value - x[0])) / (x[1] - x[0]);
      this.y = (value) => MARGIN.top + down - (down * (value - y[0])) / (y[1] - y[0]);
      this.axes(x, y, xTitle, yTitle);
    }

    axes(x, y, xTitle, yTitle) {
      const context = this.context, bottom = this.height - MARGIN.bottom;
      context.font = "12px system-ui, sans-serif";
      context.strokeStyle = colour("--line");
      context.fillStyle = colour("--ink");
      context.lineWidth = 1;
      context.strokeRect(MARGIN.left, MARGIN.top, this.width - MARGIN.left - MARGIN.right, bottom - MARGIN.top);
      context.textAlign = "center";
      for (const value of ticks(...x)) context.fillText(this.text(value), this.x(value), bottom + 16);
      context.fillText(xTitle, (MARGIN.left + this.width - MARGIN.right) / 2, this.height - 8);
      context.textAlign = "right";
      for (const value of ticks(...y)) context.fillText(this.text(value), MARGIN.left - 6, this.y(value) + 4);
      context.save();
      context.translate(14, (MARGIN.top + bottom) / 2);
      context.rotate(-Math.PI / 2);
      context.textAlign = "center";
      context.fillText(yTitle, 0, 0);
      context.restore();
    }

    text(value) {
      return Number(value.toPrecision(6)).toLocaleString("en", { maximumSignificantDigits: 6 });
    }
  }

  class Explorer {
    constructor(place) {
      this.data = JSON.parse(place.querySelector("script").textContent);
      this.columns = this.data.columns;
      this.chosen = -1;
      this.numeric = this.columns.map((_, n) => n).filter((n) => this.columns[n].numeric);
      this.bars = new Frame("Histogram");
      this.points = new Frame("Scatter; a click on a point shows its structure");
      this.readout = element("output", { className: "readout" });
      this.details = element("dl", { className: "settings picked" });
      this.build(place);
      this.listen();
      this.draw();
    }

    build(place) {
      const two = [this.numeric[0], this.numeric[1] ?? this.numeric[0]];
      this.histogramOf = this.menu("Histogram of", this.data.preferred[0] ?? two[0]);
      this.across = this.menu("across", this.data.preferred[0] ?? two[0]);
      this.upwards = this.menu("upwards", this.data.preferred[1] ?? two[1]);
      const bar = (...nodes) => element("div", { className: "controls" }, ...nodes);
      const left = element("div", {}, bar(this.histogramOf.parentNode), element("div", { className: "stage" }, this.bars.canvas));
      const right = element(
        "div", {}, bar("Scatter:", this.across.parentNode, this.upwards.parentNode),
        element("div", { className: "stage" }, this.points.canvas)
      );
      place.append(element("div", { className: "pair" }, left, right), this.readout, this.details);
    }

    menu(words, chosen) {
      const list = element("select", { "aria-label": words });
      for (const n of this.numeric) {
        list.append(element("option", { value: n, textContent: titled(this.columns[n]), selected: n === chosen }));
      }
      list.addEventListener("change", () => this.draw());
      element("label", {}, words + " ", list);
      return list;
    }

    listen() {
      const canvas = this.points.canvas;
      canvas.addEventListener("mousemove", (event) => {
        const row = this.nearest(event);
        this.readout.textContent = row < 0 ? this.counted : this.words(row);
        canvas.style.cursor = row < 0 ? "default" : "pointer";
      });
      canvas.addEventListener("click", (event) => this.pick(this.nearest(event)));
      window.addEventListener("resize", () => this.draw());
      for (const table of document.querySelectorAll(".table")) {
        if (table.querySelector("th button").textContent.trim() !== "Row") continue;
        table.classList.add("picks");
        table.addEventListener("click", (event) => {
          const line = event.target.closest("tbody tr");
          if (line) this.pick(parseInt(line.cells[0].textContent.replace(/,/g, ""), 10));
        });
      }
    }

    nearest(event) {
      const box = this.points.canvas.getBoundingClientRect();
      const x = event.clientX - box.left, y = event.clientY - box.top;
      let best = -1, distance = REACH * REACH;
      const across = this.columns[this.across.value].values, upwards = this.columns[this.upwards.value].values;
      for (let row = 0; row < across.length; row++) {
        if (!isNumber(across[row]) || !isNumber(upwards[row])) continue;
        const dx = this.points.x(across[row]) - x, dy = this.points.y(upwards[row]) - y;
        if (dx * dx + dy * dy <= distance) [best, distance] = [row, dx * dx + dy * dy];
      }
      return best;
    }

    words(row) {
      const names = this.columns.filter((column) => !column.numeric && column.values[row] !== null).slice(0, 3);
      return [`row ${row}`, ...names.map((column) => column.values[row])].join(" · ");
    }

    /** Show a row: its values, its point, its structure. */
    pick(row) {
      if (!(row >= 0)) return;
      this.chosen = row;
      this.details.replaceChildren(
        ...this.columns
          .filter((column) => column.values[row] !== null)
          .map((column) => element("div", {}, element("dt", { textContent: titled(column) }), element("dd", { textContent: String(column.values[row]) })))
      );
      const frame = this.data.frames[row], slider = document.querySelector(".viewer input[type=range]");
      if (slider && frame >= 0) {
        slider.value = frame;
        slider.dispatchEvent(new Event("input"));
      }
      const folder = this.data.folders[row];
      if (folder) {
        const link = element("a", { textContent: "its own report", href: encodeURI(folder) + "/report.html" });
        this.details.append(element("div", {}, element("dt", { textContent: "Folder" }), element("dd", {}, link)));
      }
      this.draw();
    }

    draw() {
      if (this.numeric.length === 0) return;
      this.drawBars();
      this.drawPoints();
      this.readout.textContent = this.chosen < 0 ? this.counted : this.words(this.chosen);
    }

    drawBars() {
      const column = this.columns[this.histogramOf.value], [low, high] = extent(column.values);
      const counts = new Array(BINS).fill(0);
      for (const value of column.values) {
        if (isNumber(value)) counts[Math.min(BINS - 1, Math.floor((BINS * (value - low)) / (high - low)))]++;
      }
      const frame = this.bars;
      frame.begin([low, high], [0, 1.05 * Math.max(1, ...counts)], titled(column), "structures");
      frame.context.fillStyle = colour("--accent");
      const width = (high - low) / BINS;
      counts.forEach((count, bin) => {
        const left = frame.x(low + bin * width), right = frame.x(low + (bin + 1) * width);
        frame.context.fillRect(left + 0.5, frame.y(count), right - left - 1, frame.y(0) - frame.y(count));
      });
    }

    drawPoints() {
      const across = this.columns[this.across.value], upwards = this.columns[this.upwards.value];
      const wide = ([low, high]) => [low - 0.03 * (high - low), high + 0.03 * (high - low)];
      const frame = this.points;
      frame.begin(wide(extent(across.values)), wide(extent(upwards.values)), titled(across), titled(upwards));
      const context = frame.context;
      context.fillStyle = colour("--accent");
      context.globalAlpha = across.values.length > 2000 ? 0.45 : 0.75;
      let shown = 0;
      across.values.forEach((x, row) => {
        const y = upwards.values[row];
        if (!isNumber(x) || !isNumber(y)) return;
        context.fillRect(frame.x(x) - 2, frame.y(y) - 2, 4, 4);
        shown++;
      });
      context.globalAlpha = 1;
      this.counted = `${shown.toLocaleString("en")} of ${across.values.length.toLocaleString("en")} rows have both numbers.`;
      if (this.chosen < 0) return;
      const x = across.values[this.chosen], y = upwards.values[this.chosen];
      if (!isNumber(x) || !isNumber(y)) return;
      context.strokeStyle = colour("--ink");
      context.lineWidth = 2;
      context.beginPath();
      context.arc(frame.x(x), frame.y(y), 7, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  for (const place of document.querySelectorAll(".explorer")) new Explorer(place);
})();
