// Stands in for Jupyter's widget model in a page without a kernel.

import { local } from "./local.js";

export const decode = (text) =>
  new DataView(Uint8Array.from(atob(text), (char) => char.charCodeAt(0)).buffer);

const missing = () => Promise.reject(new Error("This is not in the saved page: open the notebook to see it."));

/**
 * The model of a view that was saved: {state, answers}. `otherwise` is asked what was not: it
 * resolves to {content, buffers}, or rejects with an error whose words are shown.
 */
export function standIn(saved, otherwise = missing) {
  const state = Object.fromEntries(
    Object.entries(saved.state).map(([name, value]) => [name, value?.bytes ? decode(value.bytes) : value]),
  );
  const key = (question) => JSON.stringify(Object.entries(question).sort());
  const answers = new Map(saved.answers.map(([asked, ...answer]) => [key(asked), answer]));
  const answer = async (ask) => {
    const [content, buffers] = answers.get(key(ask)) ?? [];
    return content ? { content, buffers: buffers.map(decode) } : otherwise(ask);
  };
  return local(state, answer);
}

/** A view's script, of its text. */
export async function scriptOf(text) {
  const source = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  return (await import(source)).default;
}
