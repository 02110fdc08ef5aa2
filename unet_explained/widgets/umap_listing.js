// Python source as a person reads it: words, texts and remarks in colours, marked lines.

import { make } from "./widget.js";

const PARTS = new RegExp(
  [
    /(?<text>[rbf]*"""[^]*?"""|[rbf]*"(?:\\.|[^"\\\n])*"|[rbf]*'(?:\\.|[^'\\\n])*')/,
    /(?<remark>#.*)/,
    /(?<word>\b(?:and|as|assert|class|def|elif|else|for|from|if|import|in|is|lambda|not|or|raise|return|while|with|yield|None|True|False|self|super)\b)/,
    /(?<number>\b\d[\d_.]*(?:e-?\d+)?\b)/,
  ].map(({ source }) => source).join("|"), "g",
);

/** The code as lines of [text, kind]; kind: text, remark, word, number, or "" for all else. */
export function coloursOf(code) {
  const lines = [[]];
  const add = (text, kind) => text.split("\n").forEach((piece, i) => {
    if (i) lines.push([]);
    if (piece) lines.at(-1).push([piece, kind]);
  });
  let end = 0;
  for (const found of code.matchAll(PARTS)) {
    add(code.slice(end, found.index), "");
    add(found[0], Object.entries(found.groups).find(([, text]) => text !== undefined)[0]);
    end = found.index + found[0].length;
  }
  add(code.slice(end), "");
  return lines;
}

/** The code, its einops lines marked. */
export function listing({ code, einops }) {
  const marked = (n) => einops.some(({ first, last }) => first <= n && n <= last);
  const lines = coloursOf(code.trimEnd()).map((line, i) =>
    make("span", { class: marked(i + 1) ? "ux-umap-marked" : null },
      ...line.map(([text, kind]) => (kind ? make("span", { class: `ux-py-${kind}` }, text) : text)),
      "\n"));
  return make("pre", { tabindex: 0 }, make("code", {}, ...lines));
}
