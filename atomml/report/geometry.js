/* The viewer's data and geometry: everything that needs no page, so that Node can test it.
 *
 * Lengths are in Å. Vectors are [x, y, z]; a rotation is nine numbers, row by row, and takes a
 * position to the screen, where x points right, y up and z to the reader.
 */
"use strict";
const Geometry = (function () {
  const MIN_BOND = 0.35; // Å; closer atoms are drawn unbonded
  const FACE = 0.2; // Å; an atom as close to a face of the cell lies on it

  function bytesOf(text) {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return bytes;
  }

  /** Positions of all frames, one after the other, as x, y, z, x, y, z ... */
  function unpackPositions(packed) {
    const bytes = bytesOf(packed.data);
    const view = new DataView(bytes.buffer);
    if (packed.type === "float32") {
      return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
    }
    const out = new Float32Array(bytes.length / 2);
    for (let i = 0; i < out.length; i++) {
      out[i] = packed.origin[i % 3] + packed.step[i % 3] * view.getUint16(2 * i, true);
    }
    return out;
  }

  /** Frames as views into the shared arrays: {n, positions, kinds, cell or null, pbc}. */
  function unpackFrames(data) {
    const positions = unpackPositions(data.positions);
    const kinds = bytesOf(data.kinds);
    const frames = [];
    let start = 0;
    for (let f = 0; f < data.nFrames; f++) {
      const shared = data.counts.length === 1;
      const n = data.counts[shared ? 0 : f];
      frames.push({
        n: n,
        positions: positions.subarray(3 * start, 3 * (start + n)),
        kinds: shared ? kinds : kinds.subarray(start, start + n),
        cell: data.cells[data.cells.length === 1 ? 0 : f],
        pbc: data.pbc[data.pbc.length === 1 ? 0 : f],
      });
      start += n;
    }
    return frames;
  }

  function multiply(a, b) {
    const c = new Array(9);
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 3; j++) c[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
    }
    return c;
  }

  function aboutX(angle) {
    const c = Math.cos(angle), s = Math.sin(angle);
    return [1, 0, 0, 0, c, -s, 0, s, c];
  }

  function aboutY(angle) {
    const c = Math.cos(angle), s = Math.sin(angle);
    return [c, 0, s, 0, 1, 0, -s, 0, c];
  }

  function aboutZ(angle) {
    const c = Math.cos(angle), s = Math.sin(angle);
    return [c, -s, 0, s, c, 0, 0, 0, 1];
  }

  function cross(a, b) {
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  }

  function unit(a) {
    const length = Math.hypot(a[0], a[1], a[2]) || 1;
    return [a[0] / length, a[1] / length, a[2] / length];
  }

  /** The rotation that shows `axis` coming towards the reader, with `up` as far upwards as it can be. */
  function lookAlong(axis, up) {
    const z = unit(axis);
    let x = cross(up, z);
    if (Math.hypot(x[0], x[1], x[2]) < 1e-6) x = cross(Math.abs(z[0]) < 0.9 ? [1, 0, 0] : [0, 1, 0], z);
    x = unit(x);
    const y = cross(z, x);
    return [x[0], x[1], x[2], y[0], y[1], y[2], z[0], z[1], z[2]];
  }

  /** A rotation that rounding has bent, made orthonormal again (Gram-Schmidt). */
  function straighten(r) {
    return lookAlong([r[6], r[7], r[8]], [r[3], r[4], r[5]]);
  }

  /** Inverse of a cell whose rows are the vectors, or null if it is flat. */
  function invert(m) {
    const a = m.slice(0, 3), b = m.slice(3, 6), c = m.slice(6, 9);
    const bc = cross(b, c), ca = cross(c, a), ab = cross(a, b);
    const volume = a[0] * bc[0] + a[1] * bc[1] + a[2] * bc[2];
    if (Math.abs(volume) < 1e-9) return null;
    return [bc[0], ca[0], ab[0], bc[1], ca[1], ab[1], bc[2], ca[2], ab[2]].map((v) => v / volume);
  }

  /** Positions moved into the cell along its periodic directions. */
  function wrap(positions, cell, pbc) {
    const inverse = invert(cell);
    if (!inverse) return positions;
    const out = Float32Array.from(positions);
    for (let i = 0; i < out.length; i += 3) {
      for (let k = 0; k < 3; k++) {
        if (!pbc[k]) continue;
        const s = positions[i] * inverse[k] + positions[i + 1] * inverse[3 + k] + positions[i + 2] * inverse[6 + k];
        const shift = Math.floor(s + 1e-4); // an atom on the face stays where it is
        for (let c = 0; c < 3; c++) out[i + c] -= shift * cell[3 * k + c];
      }
    }
    return out;
  }

  /** The face atoms' copies at the opposite faces: {positions, kinds, source}, the frame's own atoms first. */
  function withImages(positions, kinds, cell, pbc) {
    const inverse = invert(cell);
    const out = { positions: Array.from(positions), kinds: Array.from(kinds), source: Array.from(kinds, (_, i) => i) };
    if (!inverse) return out;
    for (let i = 0; i < kinds.length; i++) {
      const place = [0, 1, 2].map((c) => positions[3 * i + c]);
      let shifts = [[0, 0, 0]];
      for (let k = 0; k < 3; k++) {
        if (!pbc[k]) continue;
        const s = place[0] * inverse[k] + place[1] * inverse[3 + k] + place[2] * inverse[6 + k];
        const near = FACE / Math.hypot(cell[3 * k], cell[3 * k + 1], cell[3 * k + 2]);
        const step = Math.abs(s) < near ? 1 : Math.abs(s - 1) < near ? -1 : 0;
        if (step) shifts = shifts.concat(shifts.map((v) => v.map((n, m) => (m === k ? step : n))));
      }
      for (const n of shifts.slice(1)) {
        out.positions.push(...place.map((v, c) => v + n[0] * cell[c] + n[1] * cell[3 + c] + n[2] * cell[6 + c]));
        out.kinds.push(kinds[i]);
        out.source.push(i);
      }
    }
    return out;
  }

  /** Bond cutoffs without those between two metals, unless three atoms in four or more are metals:
   *  in an oxide the cations come as close as in the metal without being bonded. */
  function frameCutoffs(cutoffs, metals, kinds) {
    const others = kinds.filter((kind) => !metals[kind]).length;
    if (others < 0.25 * kinds.length) return cutoffs;
    return cutoffs.map((row, i) => row.map((value, j) => (metals[i] && metals[j] ? 0 : value)));
  }

  /** Pairs i < j of atoms closer than their elements' cutoff, as i, j, i, j ...; boxes make it linear. */
  function findBonds(positions, kinds, cutoffs) {
    const longest = Math.max(0, ...cutoffs.map((row) => Math.max(...row)));
    const bonds = [];
    if (longest <= 0) return bonds;
    const boxes = new Map();
    const n = positions.length / 3;
    const index = (i, c) => Math.floor(positions[3 * i + c] / longest) + 50000;
    const key = (a, b, c) => (a * 100003 + b) * 100003 + c;
    for (let i = 0; i < n; i++) {
      const place = key(index(i, 0), index(i, 1), index(i, 2));
      if (!boxes.has(place)) boxes.set(place, []);
      boxes.get(place).push(i);
    }
    for (let i = 0; i < n; i++) {
      const a = index(i, 0), b = index(i, 1), c = index(i, 2);
      for (let box = 0; box < 27; box++) {
        const near = boxes.get(key(a + (box % 3) - 1, b + (((box / 3) | 0) % 3) - 1, c + ((box / 9) | 0) - 1));
        if (!near) continue;
        for (const j of near) {
          if (j <= i) continue;
          const x = positions[3 * i] - positions[3 * j];
          const y = positions[3 * i + 1] - positions[3 * j + 1];
          const z = positions[3 * i + 2] - positions[3 * j + 2];
          const squared = x * x + y * y + z * z;
          const cutoff = cutoffs[kinds[i]][kinds[j]];
          if (squared < cutoff * cutoff && squared > MIN_BOND * MIN_BOND) bonds.push(i, j);
        }
      }
    }
    return bonds;
  }

  /** Centre and radius of what the first frame and its cell fill. */
  function bounds(frame) {
    const points = Array.from(frame.positions);
    if (frame.cell) points.push(...corners(frame.cell).flat());
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    for (let i = 0; i < points.length; i++) {
      low[i % 3] = Math.min(low[i % 3], points[i]);
      high[i % 3] = Math.max(high[i % 3], points[i]);
    }
    const centre = low.map((v, c) => (points.length ? (v + high[c]) / 2 : 0));
    let radius = 0;
    for (let i = 0; i < points.length; i += 3) {
      radius = Math.max(radius, Math.hypot(points[i] - centre[0], points[i + 1] - centre[1], points[i + 2] - centre[2]));
    }
    return { centre: centre, radius: radius + 1 };
  }

  function corners(cell) {
    const out = [];
    for (let m = 0; m < 8; m++) {
      out.push([0, 1, 2].map((c) => (m & 1) * cell[c] + ((m >> 1) & 1) * cell[3 + c] + (m >> 2) * cell[6 + c]));
    }
    return out;
  }

  /** Order of indices by depth, far first: one counting sort instead of a comparison sort per frame. */
  function byDepth(depths) {
    const n = depths.length, buckets = 2048;
    let low = Infinity, high = -Infinity;
    for (let i = 0; i < n; i++) {
      if (depths[i] < low) low = depths[i];
      if (depths[i] > high) high = depths[i];
    }
    const scale = high > low ? (buckets - 1) / (high - low) : 0;
    const starts = new Uint32Array(buckets + 1);
    for (let i = 0; i < n; i++) starts[1 + ((depths[i] - low) * scale | 0)]++;
    for (let b = 0; b < buckets; b++) starts[b + 1] += starts[b];
    const order = new Uint32Array(n);
    for (let i = 0; i < n; i++) order[starts[(depths[i] - low) * scale | 0]++] = i;
    return order;
  }

  return {
    aboutX, aboutY, aboutZ, bounds, byDepth, corners, findBonds, frameCutoffs, invert, lookAlong, multiply, straighten,
    unit, unpackFrames, withImages, wrap,
  };
})();
if (typeof module !== "undefined") module.exports = Geometry;
