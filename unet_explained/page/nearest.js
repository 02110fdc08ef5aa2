// The name closest to a word, after words.py, which has it of Python's difflib.

const LEAST = 0.6; // of likeness

/** Of the names the likest, of equals the last by the alphabet; null if none is like it. */
export function nearest(word, names) {
  const scored = names.map((name) => [likeness([...name], [...word].slice(0, 200)), name]);
  const like = scored.filter(([score]) => score >= LEAST);
  like.sort(([one, name], [other, next]) => other - one || (name < next ? 1 : -1));
  return like[0]?.[1] ?? null;
}

/** The share of both that stands in common stretches, in the same order. */
function likeness(one, other) {
  return (2 * common(one, other)) / (one.length + other.length);
}

/** The longest common stretch, and so on to the left and the right of it. */
function common(one, other) {
  let [at, there, length] = [0, 0, 0];
  for (let i = 0; i < one.length; i++)
    for (let j = 0; j < other.length; j++) {
      let same = 0;
      while (i + same < one.length && one[i + same] === other[j + same]) same++;
      if (same > length) [at, there, length] = [i, j, same];
    }
  if (!length) return 0;
  const left = common(one.slice(0, at), other.slice(0, there));
  return length + left + common(one.slice(at + length), other.slice(there + length));
}
