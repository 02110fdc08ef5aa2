// Many channels as three colours, after show/features.py: like colours, like features.

const TURNS = 400; // of a power iteration: more change no level of a colour

/** The bytes of a picture of maps (channel, places); a place with what is not finite is grey. */
export function principalColours(maps, channels) {
  const count = maps.length / channels, picture = new Uint8Array(3 * count).fill(128);
  const places = [...Array(count).keys()];
  const whole = (i) => {
    for (let c = 0; c < channels; c++) if (!Number.isFinite(maps[c * count + i])) return false;
    return true;
  };
  const finite = places.map(whole), rows = centred(maps, channels, finite);
  for (const [colour, direction] of directions(rows, channels).entries()) {
    const along = new Float64Array(count);
    direction.forEach((share, c) => {
      for (let i = 0; i < count; i++) along[i] += share * rows[c][i];
    });
    const sorted = along.slice().sort(), low = percentile(sorted, 0.01);
    const reach = Math.max(percentile(sorted, 0.99) - low, 1e-12);
    const level = (value) => Math.trunc(255 * Math.min(Math.max((value - low) / reach, 0), 1));
    for (const i of places) if (finite[i]) picture[3 * i + colour] = level(along[i]);
  }
  return picture;
}

/** Each channel less its mean; 0 where a place is not finite. */
function centred(maps, channels, finite) {
  const count = finite.length;
  return Array.from({ length: channels }, (_, c) => {
    const row = Float64Array.from(maps.subarray(c * count, (c + 1) * count),
      (value, i) => (finite[i] ? value : 0));
    const mean = row.reduce((sum, value) => sum + value, 0) / count;
    return row.map((value) => value - mean);
  });
}

/** The three in which the rows' places differ most, each of length 1. */
function directions(rows, channels) {
  const products = rows.map((row) => rows.map((other) => dot(row, other)));
  return Array.from({ length: 3 }, () => {
    let found = Float64Array.from({ length: channels }, (_, c) => Math.cos(c)); // no symmetry
    for (let turn = 0; turn < TURNS; turn++) found = unit(times(products, found));
    const strength = dot(found, times(products, found)); // and without it, the next
    products.forEach((row, c) => row.forEach((_, d) => (row[d] -= strength * found[c] * found[d])));
    const most = found.reduce((one, other) => (Math.abs(other) > Math.abs(one) ? other : one), 0);
    return most < 0 ? found.map((value) => -value) : found;
  });
}

function dot(one, other) {
  let sum = 0;
  for (let i = 0; i < one.length; i++) sum += one[i] * other[i];
  return sum;
}

const times = (matrix, vector) => Float64Array.from(matrix, (row) => dot(row, vector));

function unit(vector) {
  const length = Math.sqrt(dot(vector, vector));
  return length ? vector.map((value) => value / length) : vector;
}

function percentile(sorted, share) {
  const at = share * (sorted.length - 1), low = Math.floor(at);
  const high = sorted[Math.min(low + 1, sorted.length - 1)];
  return sorted[low] + (at - low) * (high - sorted[low]);
}
