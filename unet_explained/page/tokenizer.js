// CLIP's tokenizer, as run/text.py reads a prompt by it: ids, tokens, and which are of which word.

const WORD = /[\p{L}\p{N}_]+(?:['’-][\p{L}\p{N}_]+)*/gu;
const SPECIAL = /<\|startoftext\|>|<\|endoftext\|>/g;
// What a token never crosses: CLIP's own pattern, and within its pieces that of byte-level BPE.
const PIECE =
  /<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\p{White_Space}\p{L}\p{N}]+/gu;
const PART = /'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}+|[^\p{White_Space}\p{L}\p{N}]+/gu;
const [START, END, LAST] = ["<|startoftext|>", "<|endoftext|>", "</w>"];

/** A function that reads a text. vocab: token to id; merges: pairs, the first come first. */
export function reader({ vocab, merges, length }) {
  const ranks = new Map(merges.map((pair, rank) => [pair.join(" "), rank]));
  return (text) => {
    const found = encoded(text, vocab, ranks), kept = found.slice(0, length - 2);
    const ends = { token: END, start: 0, end: 0 };
    const all = [{ token: START, start: 0, end: 0 }, ...kept, ends];
    const padded = [...all, ...Array(length - all.length).fill(ends)];
    const used = all.slice(0, all.findIndex(({ token }) => token === END) + 1);
    const words = wordsOf(text, used), every = text.match(WORD) ?? [];
    return {
      text, words, cutOff: every.slice(words.length), tokens: used.map(({ token }) => token),
      ids: padded.map(({ token }) => vocab[token]),
    };
  };
}

/** The words that have tokens, in reading order: {text, tokens}. */
function wordsOf(text, places) {
  const numbered = places.map((place, number) => ({ ...place, number }));
  return [...text.matchAll(WORD)].map(({ 0: word, index }) => ({
    text: word,
    tokens: numbered
      .filter(({ start, end }) => start < index + word.length && end > index)
      .map(({ number }) => number),
  })).filter(({ tokens }) => tokens.length);
}

function encoded(text, vocab, ranks) {
  const found = [];
  let from = 0;
  const plain = (end) => found.push(...tokensOf(text.slice(from, end), from, ranks));
  for (const { 0: token, index } of text.matchAll(SPECIAL)) {
    plain(index);
    from = index + token.length;
    found.push({ token, start: index, end: from });
  }
  plain(text.length);
  return found;
}

function tokensOf(text, offset, ranks) {
  const places = normalised(text), whole = places.map(({ char }) => char).join("");
  const starts = []; // of each unit of `whole`, the place that it belongs to
  for (const place of places) for (let i = 0; i < place.char.length; i++) starts.push(place);
  const tokens = [];
  for (const { 0: piece, index } of whole.matchAll(PIECE))
    for (const { 0: part, index: within } of piece.matchAll(PART)) {
      let at = index + within;
      const units = [];
      for (const char of part) {
        const { start, end } = starts[at];
        at += char.length;
        for (const byte of new TextEncoder().encode(char))
          units.push({ token: BYTES[byte], start: start + offset, end: end + offset });
      }
      tokens.push(...merged(units, ranks));
    }
  return tokens;
}

/** Lower case, composed (NFC): each character, and the part of the text that it stands for. */
function normalised(text) {
  return [...text.matchAll(/\P{M}\p{M}*|\p{M}+/gu)].flatMap(({ 0: cluster, index }) =>
    composed([...cluster], index).flatMap(({ char, ...place }) =>
      [...char.toLowerCase()].map((lower) => ({ char: lower, ...place }))));
}

/** A letter and its marks: those that stay marks have their own place, the rest share one. */
function composed(given, start) {
  const made = [...given.join("").normalize("NFC")], own = [];
  let end = start + given.join("").length;
  while (made.length && made.at(-1) === given.at(-1)) {
    const char = made.pop();
    given.pop();
    own.unshift({ char, start: end - char.length, end });
    end -= char.length;
  }
  return [...made.map((char) => ({ char, start, end })), ...own];
}

/** Byte pair encoding: Sennrich et al. 2016. The last unit of a piece is marked as its end. */
function merged(units, ranks) {
  const last = units.at(-1);
  const parts = [...units.slice(0, -1), { ...last, token: last.token + LAST }];
  for (;;) {
    let [best, at] = [Infinity, -1];
    for (let i = 0; i + 1 < parts.length; i++) {
      const rank = ranks.get(`${parts[i].token} ${parts[i + 1].token}`) ?? Infinity;
      if (rank < best) [best, at] = [rank, i];
    }
    if (at < 0) return parts;
    const [one, other] = parts.slice(at, at + 2);
    parts.splice(at, 2, { token: one.token + other.token, start: one.start, end: other.end });
  }
}

/** Of each byte the character that stands for it: GPT-2's table, in which none is a space. */
const BYTES = (() => {
  const shown = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(shown(byte) ? byte : next++));
})();
