/* A viewer of atoms on a 2D canvas: turn, zoom, shift, play.
 *
 * Each <div class="viewer"> holds its structures as JSON (see frames.py). Nothing is loaded, no
 * library is used; geometry.js, which comes before this script, does the mathematics.
 */
"use strict";
(function () {
  const { aboutX, aboutY, aboutZ, bounds, byDepth, corners, findBonds, frameCutoffs, lookAlong } = Geometry;
  const { multiply, straighten, unit, unpackFrames, withImages, wrap } = Geometry;

  const FOG_LEVELS = 8; // shades from near (clear) to far (mixed with the page's background)
  const SPRITE = 96; // pixels across a prerendered atom
  const ATOM_SCALE = 0.42; // drawn radius over covalent radius
  const BOND_RADIUS = 0.11; // Å
  const EYE = 5; // distance of the eye, in radii of the scene: a mild perspective

  // ---------------------------------------------------------------- colours

  function channels(colour) {
    if (colour[0] === "#") return [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
    return (colour.match(/[\d.]+/g) || [255, 255, 255]).slice(0, 3).map(Number);
  }

  function mix(a, b, share) {
    return "rgb(" + a.map((v, c) => Math.round(v + (b[c] - v) * share)).join(",") + ")";
  }

  function fogShare(level) {
    return 0.6 * (level / (FOG_LEVELS - 1));
  }

  /** One shaded ball per element and fog level, drawn once and then only copied. */
  function makeSprites(species, background) {
    return species.map((one) =>
      Array.from({ length: FOG_LEVELS }, (_, level) => {
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = SPRITE;
        const context = canvas.getContext("2d"), half = SPRITE / 2, radius = half - 2;
        const colour = channels(one.colour), fog = fogShare(level);
        const tone = (to, share) => mix(channels(mix(colour, to, share)), background, fog);
        const shade = context.createRadialGradient(0.68 * half, 0.62 * half, 0.05 * half, half, half, radius);
        shade.addColorStop(0, tone([255, 255, 255], 0.75));
        shade.addColorStop(0.25, tone([255, 255, 255], 0.25));
        shade.addColorStop(0.65, tone([0, 0, 0], 0.04));
        shade.addColorStop(1, tone([0, 0, 0], 0.45));
        context.fillStyle = shade;
        context.beginPath();
        context.arc(half, half, radius, 0, 2 * Math.PI);
        context.fill();
        context.lineWidth = 2;
        context.strokeStyle = tone([0, 0, 0], 0.6);
        context.stroke();
        return canvas;
      })
    );
  }

  // ---------------------------------------------------------------- the viewer

  function element(tag, properties, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name in node && name !== "list") node[name] = value;
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  class Viewer {
    constructor(place) {
      const source = place.querySelector("script");
      this.data = JSON.parse(source.textContent);
      this.frames = unpackFrames(this.data);
      this.mixed = this.data.counts.length > 1; // unlike structures, not the steps of one
      this.show = { bonds: true, cell: true, wrap: false, images: this.mixed || this.frames.length === 1 };
      this.cache = new Map(); // frame number -> what is drawn of it
      this.frame = 0;
      this.pointers = new Map();
      this.build(place);
      this.reset();
      this.listen();
      this.choose(0);
    }

    // -------- page elements

    build(place) {
      const composition = this.legend();
      this.canvas = element("canvas", {
        tabIndex: 0,
        role: "img",
        "aria-label":
          `${this.data.title}: ${composition.words}. Arrow keys turn it, plus and minus zoom, ` +
          "shift with arrows moves it, comma and full stop step through frames, space plays, R resets.",
      });
      this.label = element("div", { className: "label", hidden: true });
      this.context = this.canvas.getContext("2d");
      const stage = element("div", { className: "stage" }, this.canvas, this.label, composition.node);
      this.readout = element("output", { className: "readout" });
      place.append(stage, this.controls(), this.readout);
    }

    legend() {
      const first = this.frames[0], counts = new Map();
      for (const kind of first.kinds) counts.set(kind, (counts.get(kind) || 0) + 1);
      const node = element("ul", { className: "legend" });
      const words = [];
      this.data.species.forEach((one, kind) => {
        const swatch = element("span", { className: "swatch" });
        swatch.style.background = one.colour;
        const count = counts.get(kind) || 0;
        node.append(element("li", {}, swatch, this.mixed ? one.symbol : `${one.symbol} ${count}`));
        if (count) words.push(`${count} ${one.symbol}`);
      });
      return { node: node, words: `${first.n} atoms (${words.join(", ")})` };
    }

    controls() {
      const bar = element("div", { className: "controls", role: "group", "aria-label": "View" });
      const button = (text, label, action) => {
        const node = element("button", { type: "button", textContent: text, title: label, "aria-label": label });
        node.addEventListener("click", action);
        bar.append(node);
        return node;
      };
      if (this.frames.length > 1) {
        this.player = button("▶", "Play", () => this.play(!this.playing));
        this.slider = element("input", {
          type: "range", min: 0, max: this.frames.length - 1, value: 0, "aria-label": "Frame",
        });
        this.slider.addEventListener("input", () => {
          this.play(false);
          this.choose(Number(this.slider.value));
        });
        bar.append(this.slider);
      }
      button("+", "Zoom in", () => this.zoomBy(1.2));
      button("−", "Zoom out", () => this.zoomBy(1 / 1.2));
      const axes = this.frames[0].cell ? ["a", "b", "c"] : ["x", "y", "z"];
      axes.forEach((name, axis) => button(name, `Look along ${name}`, () => this.along(axis)));
      button("Reset", "Reset the view", () => this.reset());
      const toggle = (name, text) => {
        const box = element("input", { type: "checkbox", checked: this.show[name] });
        box.addEventListener("change", () => {
          this.show[name] = box.checked;
          this.cache.clear();
          this.draw();
        });
        bar.append(element("label", {}, box, text));
      };
      toggle("bonds", "bonds");
      if (this.frames.some((frame) => frame.cell)) {
        toggle("cell", "cell");
        toggle("wrap", "wrap");
        toggle("images", "images");
      }
      button("Save PNG", "Save this view as an image", () => this.save());
      return bar;
    }

    // -------- events

    listen() {
      const canvas = this.canvas;
      canvas.addEventListener("pointerdown", (event) => {
        this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
        canvas.setPointerCapture(event.pointerId);
        this.hide();
      });
      canvas.addEventListener("pointermove", (event) => this.moved(event));
      for (const name of ["pointerup", "pointercancel"]) {
        canvas.addEventListener(name, (event) => {
          this.pointers.delete(event.pointerId);
          this.draw();
        });
      }
      canvas.addEventListener("pointerleave", () => this.hide());
      // The wheel zooms once the viewer has the focus, so that a page scrolls past it undisturbed.
      canvas.addEventListener("wheel", (event) => {
        if (document.activeElement !== canvas && !event.ctrlKey) return;
        event.preventDefault();
        const lines = event.deltaMode === 1 ? 30 : 1;
        this.zoomBy(Math.exp(-0.0015 * lines * event.deltaY));
      }, { passive: false });
      canvas.addEventListener("keydown", (event) => this.key(event));
      new ResizeObserver(() => this.resize()).observe(canvas);
      const dark = window.matchMedia("(prefers-color-scheme: dark)");
      dark.addEventListener("change", () => this.recolour());
      this.recolour();
    }

    moved(event) {
      const before = this.pointers.get(event.pointerId);
      if (!before) return this.hover(event);
      const now = [event.clientX, event.clientY];
      const dx = now[0] - before[0], dy = now[1] - before[1];
      if (this.pointers.size === 2) {
        const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
        const was = Math.hypot(before[0] - other[0], before[1] - other[1]);
        this.zoomBy(Math.hypot(now[0] - other[0], now[1] - other[1]) / (was || 1));
        this.shift(dx / 2, dy / 2);
      } else if (event.shiftKey || event.buttons === 4) {
        this.shift(dx, dy);
      } else {
        this.turn(0.01 * dx, 0.01 * dy);
      }
      this.pointers.set(event.pointerId, now);
    }

    key(event) {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (step && event.shiftKey) this.shift(12 * step[0], 12 * step[1]);
      else if (step) this.turn(0.08 * step[0], 0.08 * step[1]);
      else if (event.key === "+" || event.key === "=") this.zoomBy(1.15);
      else if (event.key === "-") this.zoomBy(1 / 1.15);
      else if (event.key === "r" || event.key === "R") this.reset();
      else if (event.key === " " && this.frames.length > 1) this.play(!this.playing);
      else if (event.key === ",") this.choose(this.frame - 1);
      else if (event.key === ".") this.choose(this.frame + 1);
      else return;
      event.preventDefault();
    }

    // -------- camera

    turn(x, y) {
      this.rotation = straighten(multiply(multiply(aboutX(y), aboutY(x)), this.rotation));
      this.draw();
    }

    shift(x, y) {
      this.pan = [this.pan[0] + x, this.pan[1] + y];
      this.draw();
    }

    zoomBy(factor) {
      this.zoom = Math.min(40, Math.max(0.2, this.zoom * factor));
      this.draw();
    }

    along(axis) {
      const cell = this.frames[this.frame].cell || [1, 0, 0, 0, 1, 0, 0, 0, 1];
      const up = axis === 2 ? 1 : 2;
      this.rotation = lookAlong(cell.slice(3 * axis, 3 * axis + 3), cell.slice(3 * up, 3 * up + 3));
      this.pan = [0, 0];
      this.draw();
    }

    reset() {
      this.rotation = multiply(aboutX(-1.32), aboutZ(-0.3)); // z up, a little from above and from the side
      this.zoom = 1;
      this.pan = [0, 0];
      this.draw();
    }

    // -------- frames

    choose(number) {
      this.frame = Math.min(this.frames.length - 1, Math.max(0, number));
      if (this.slider) this.slider.value = this.frame;
      this.scene = bounds(this.frames[this.mixed ? this.frame : 0]);
      this.tell();
      this.hide();
      this.draw();
    }

    play(on) {
      if (on && this.frame === this.frames.length - 1) this.choose(0);
      this.playing = on;
      this.player.textContent = on ? "❚❚" : "▶";
      this.player.setAttribute("aria-label", on ? "Pause" : "Play");
      let last = performance.now();
      const step = (now) => {
        if (!this.playing) return;
        if (now - last >= 70) {
          last = now;
          if (this.frame === this.frames.length - 1) return this.play(false);
          this.choose(this.frame + 1);
        }
        requestAnimationFrame(step);
      };
      if (on) requestAnimationFrame(step);
    }

    tell() {
      const parts = [];
      const numbers = this.data.frameNumbers;
      if (this.frames.length > 1) parts.push(`Frame ${numbers[this.frame]} of ${numbers[numbers.length - 1]}`);
      if (this.mixed) parts.push(`${this.frames[this.frame].n} atoms`);
      for (const value of this.data.values) {
        const number = value.data[this.frame];
        const text = number === null ? "–" : Number(number.toPrecision(7)).toString();
        parts.push(`${value.label} ${text}${value.unit ? " " + value.unit : ""}`);
      }
      this.readout.textContent = parts.join(" · ");
    }

    /** What is drawn of the current frame: positions, kinds, whose image an atom is, and bonds. */
    content() {
      if (!this.cache.has(this.frame)) {
        const frame = this.frames[this.frame];
        let shown = { positions: frame.positions, kinds: frame.kinds, source: null };
        if (this.show.wrap && frame.cell) shown.positions = wrap(frame.positions, frame.cell, frame.pbc);
        if (this.show.images && frame.cell) shown = withImages(shown.positions, frame.kinds, frame.cell, frame.pbc);
        const cutoffs = frameCutoffs(this.data.bondCutoffs, this.data.metals, frame.kinds);
        shown.bonds = this.show.bonds ? findBonds(shown.positions, shown.kinds, cutoffs) : [];
        this.cache.set(this.frame, shown);
      }
      return this.cache.get(this.frame);
    }

    // -------- drawing

    resize() {
      const ratio = window.devicePixelRatio || 1;
      this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
      this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
      this.paint();
    }

    recolour() {
      const style = getComputedStyle(this.canvas);
      this.background = channels(style.backgroundColor);
      this.ink = channels(style.color);
      this.sprites = makeSprites(this.data.species, this.background);
      this.draw();
    }

    /** Asks for one painting, however often it is called before the next screen refresh. */
    draw() {
      if (this.waiting) return;
      this.waiting = true;
      requestAnimationFrame(() => {
        this.waiting = false;
        this.paint();
      });
    }

    /** A projection of points to [x, y, depth, scale]: pixels, Å towards the reader, pixels per Å. */
    projector() {
      const r = this.rotation, c = this.scene.centre, ratio = window.devicePixelRatio || 1;
      const w = this.canvas.width, h = this.canvas.height;
      const scale = (0.54 * Math.min(w, h) * this.zoom) / this.scene.radius;
      const eye = EYE * this.scene.radius, panX = this.pan[0] * ratio, panY = this.pan[1] * ratio;
      return (x, y, z) => {
        x -= c[0]; y -= c[1]; z -= c[2];
        const depth = r[6] * x + r[7] * y + r[8] * z;
        const s = scale * (eye / Math.max(0.2 * eye, eye - depth));
        return [
          w / 2 + panX + s * (r[0] * x + r[1] * y + r[2] * z),
          h / 2 + panY - s * (r[3] * x + r[4] * y + r[5] * z),
          depth, s,
        ];
      };
    }

    paint() {
      if (!this.sprites || !this.canvas.width) return;
      const frame = this.frames[this.frame], { positions, kinds, bonds } = this.content();
      const project = this.projector(), n = kinds.length;
      const points = new Array(n);
      for (let i = 0; i < n; i++) points[i] = project(positions[3 * i], positions[3 * i + 1], positions[3 * i + 2]);
      const sticks = this.sticks(points, bonds, kinds);
      if (frame.cell && this.show.cell) this.addCell(sticks, frame.cell, project);
      const depths = new Float32Array(n + sticks.length);
      for (let i = 0; i < n; i++) depths[i] = points[i][2];
      for (let i = 0; i < sticks.length; i++) depths[n + i] = sticks[i].depth;
      const context = this.context;
      context.clearRect(0, 0, this.canvas.width, this.canvas.height);
      context.lineCap = "round";
      for (const item of byDepth(depths)) {
        if (item < n) this.paintAtom(points[item], kinds[item]);
        else this.paintStick(sticks[item - n]);
      }
      this.paintAxes(frame.cell);
      this.points = points;
    }

    fog(depth) {
      const share = 0.5 - depth / (2 * this.scene.radius);
      return Math.min(FOG_LEVELS - 1, Math.max(0, Math.round(share * (FOG_LEVELS - 1))));
    }

    radius(kind) {
      return ATOM_SCALE * this.data.species[kind].radius;
    }

    /** Each bond as two halves in the colours of its atoms, from the balls' surface on. */
    sticks(points, bonds, kinds) {
      const out = [];
      for (let b = 0; b < bonds.length; b += 2) {
        for (const [i, j] of [[bonds[b], bonds[b + 1]], [bonds[b + 1], bonds[b]]]) {
          const p = points[i], q = points[j], kind = kinds[i];
          const length = Math.hypot((q[0] - p[0]) / p[3], (q[1] - p[1]) / p[3], q[2] - p[2]) || 1;
          const t = Math.min(0.5, (0.8 * this.radius(kind)) / length);
          out.push({
            x: p[0] + t * (q[0] - p[0]), y: p[1] + t * (q[1] - p[1]),
            u: (p[0] + q[0]) / 2, v: (p[1] + q[1]) / 2,
            depth: 0.7 * p[2] + 0.3 * q[2], width: 2 * BOND_RADIUS * p[3], kind: kind,
          });
        }
      }
      return out;
    }

    /** The cell's edges in short pieces, so that atoms hide what lies behind them. */
    addCell(sticks, cell, project) {
      const c = corners(cell), pieces = 10, ratio = window.devicePixelRatio || 1;
      for (let m = 0; m < 8; m++) {
        for (let k = 0; k < 3; k++) {
          if (m & (1 << k)) continue;
          const from = c[m], to = c[m | (1 << k)];
          for (let s = 0; s < pieces; s++) {
            const at = (t) => project(...from.map((v, i) => v + (t / pieces) * (to[i] - v)));
            const p = at(s), q = at(s + 1);
            sticks.push({
              x: p[0], y: p[1], u: q[0], v: q[1], depth: (p[2] + q[2]) / 2, width: 1.2 * ratio, kind: -1,
            });
          }
        }
      }
    }

    paintAtom(point, kind) {
      const radius = this.radius(kind) * point[3] * (SPRITE / (SPRITE - 4));
      const sprite = this.sprites[kind][this.fog(point[2])];
      this.context.drawImage(sprite, point[0] - radius, point[1] - radius, 2 * radius, 2 * radius);
    }

    paintStick(stick) {
      const context = this.context, fog = fogShare(this.fog(stick.depth));
      const stroke = (colour, width) => {
        context.strokeStyle = colour;
        context.lineWidth = width;
        context.beginPath();
        context.moveTo(stick.x, stick.y);
        context.lineTo(stick.u, stick.v);
        context.stroke();
      };
      if (stick.kind < 0) return stroke(mix(this.ink, this.background, 0.35 + 0.8 * fog), stick.width);
      const colour = channels(this.data.species[stick.kind].colour);
      const dark = channels(mix(colour, [0, 0, 0], 0.5));
      context.lineCap = "butt";
      stroke(mix(dark, this.background, fog), stick.width);
      stroke(mix(colour, this.background, fog), 0.62 * stick.width);
      context.lineCap = "round";
    }

    /** A small tripod in the corner: the cell's vectors, or x, y and z. */
    paintAxes(cell) {
      const ratio = window.devicePixelRatio || 1, context = this.context, r = this.rotation;
      const names = cell ? ["a", "b", "c"] : ["x", "y", "z"];
      const vectors = cell || [1, 0, 0, 0, 1, 0, 0, 0, 1];
      const x0 = 46 * ratio, y0 = this.canvas.height - 46 * ratio, length = 26 * ratio;
      context.font = `600 ${12 * ratio}px system-ui, sans-serif`;
      context.textAlign = "center";
      context.textBaseline = "middle";
      ["#d55e00", "#009e73", "#3a8fd6"].forEach((colour, k) => {
        const v = unit(vectors.slice(3 * k, 3 * k + 3));
        const x = r[0] * v[0] + r[1] * v[1] + r[2] * v[2], y = r[3] * v[0] + r[4] * v[1] + r[5] * v[2];
        context.strokeStyle = context.fillStyle = colour;
        context.lineWidth = 2 * ratio;
        context.beginPath();
        context.moveTo(x0, y0);
        context.lineTo(x0 + length * x, y0 - length * y);
        context.stroke();
        context.fillText(names[k], x0 + 1.38 * length * x, y0 - 1.38 * length * y);
      });
    }

    // -------- labels and images

    /** The frontmost atom under a point of the canvas (in its pixels), or -1. */
    pick(x, y) {
      let best = -1;
      const kinds = this.content().kinds;
      (this.points || []).forEach((p, i) => {
        const near = Math.hypot(p[0] - x, p[1] - y) <= Math.max(4, this.radius(kinds[i]) * p[3]);
        if (near && (best < 0 || p[2] > this.points[best][2])) best = i;
      });
      return best;
    }

    hover(event) {
      const ratio = window.devicePixelRatio || 1;
      const box = this.canvas.getBoundingClientRect();
      const x = event.clientX - box.left, y = event.clientY - box.top;
      const drawn = this.pick(x * ratio, y * ratio);
      if (drawn < 0) return this.hide();
      const source = this.content().source, atom = source ? source[drawn] : drawn;
      const frame = this.frames[this.frame];
      const xyz = [0, 1, 2].map((c) => frame.positions[3 * atom + c].toFixed(3)).join(", ");
      this.label.textContent = `${this.data.species[frame.kinds[atom]].symbol} · atom ${atom} · (${xyz}) Å`;
      this.label.hidden = false;
      this.label.style.left = Math.min(x + 14, box.width - this.label.offsetWidth - 4) + "px";
      this.label.style.top = Math.max(4, y - 30) + "px";
    }

    hide() {
      this.label.hidden = true;
    }

    save() {
      const copy = element("canvas", { width: this.canvas.width, height: this.canvas.height });
      const context = copy.getContext("2d");
      context.fillStyle = mix(this.background, this.background, 0);
      context.fillRect(0, 0, copy.width, copy.height);
      context.drawImage(this.canvas, 0, 0);
      element("a", { href: copy.toDataURL("image/png"), download: "structure.png" }).click();
    }
  }

  for (const place of document.querySelectorAll(".viewer")) new Viewer(place);
})();
