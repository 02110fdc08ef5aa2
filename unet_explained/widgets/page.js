// Stands in for Jupyter's widget model in a page without a kernel: a saved state, saved answers.

import { local } from "./local.js";

const saved = JSON.parse(document.getElementById("saved").textContent);
const decode = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const state = Object.fromEntries(
  Object.entries(saved.state).map(([name, value]) => [name, value?.bytes ? decode(value.bytes) : value]),
);
const key = (question) => JSON.stringify(Object.entries(question).sort());
const answers = new Map(saved.answers.map(([asked, ...answer]) => [key(asked), answer]));

async function answer(question) {
  const found = answers.get(key(question));
  if (!found) throw new Error("This is not in the saved page: open the notebook to see it.");
  const [content, buffers] = found;
  return { content, buffers: buffers.map(decode) };
}

const source = URL.createObjectURL(new Blob([saved.esm], { type: "text/javascript" }));
const view = (await import(source)).default;
view.render({ model: local(state, answer), el: document.getElementById("view") });
