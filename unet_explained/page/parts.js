// Where the packed parts are: in this page as text, or in files beside it.

const CHUNK = 5 * 2 ** 18; // characters, of which five are four bytes
// The digits of base 85, as Python's b85encode has them, but for "<", which could begin markup.
const DIGITS =
  "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~";
const VALUES = new Uint8Array(128);
[...DIGITS].forEach((digit, value) => { VALUES[digit.charCodeAt(0)] = value; });

/** {name: {size, chunks()}}; sizes: bytes of each, packed; files: their addresses, or null. */
export function partsOf(sizes, files) {
  return Object.fromEntries(Object.entries(sizes).map(([name, size]) =>
    [name, { size, chunks: () => (files ? fetched(files[name]) : inlined(`part-${name}`)) }]));
}

async function* inlined(id) {
  const text = document.getElementById(id).textContent;
  for (let at = 0; at < text.length; at += CHUNK) {
    yield decoded(text.slice(at, at + CHUNK));
    await new Promise((resolve) => setTimeout(resolve)); // the page is drawn meanwhile
  }
}

/** The bytes of digits of base 85; fewer than five at the end are fewer than four bytes. */
export function decoded(text) {
  const groups = Math.ceil(text.length / 5), bytes = new DataView(new ArrayBuffer(4 * groups));
  for (let group = 0; group < groups; group++) {
    let value = 0;
    for (let at = 5 * group; at < 5 * group + 5; at++)
      value = 85 * value + (at < text.length ? VALUES[text.charCodeAt(at)] : 84);
    bytes.setUint32(4 * group, value);
  }
  return new Uint8Array(bytes.buffer, 0, 4 * groups - ((5 - (text.length % 5)) % 5));
}

/** The bytes of which the even ones came first, then the odd ones. */
export function woven(halves) {
  const bytes = new Uint8Array(halves.length), even = Math.ceil(halves.length / 2);
  for (let i = 0; i < even; i++) bytes[2 * i] = halves[i];
  for (let i = even; i < halves.length; i++) bytes[2 * (i - even) + 1] = halves[i];
  return bytes;
}

async function* fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address} is not there (${answer.status})`);
  const reader = answer.body.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}
