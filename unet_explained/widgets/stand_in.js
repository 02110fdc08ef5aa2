// Stands in for Jupyter's widget model in a page without a kernel.

import { local } from "./local.js";

export const decode = (text) =>
  new DataView(Uint8Array.from(atob(text), (char) => char.charCodeAt(0)).buffer);

const missing = () => Promise.reject(new Error("This is not in the saved page: open the notebook to see it."));

const key = (question) => JSON.stringify(Object.entries(question).sort());
const stateOf = ({ state }) => Object.fromEntries(
  Object.entries(state).map(([name, value]) => [name, value?.bytes ? decode(value.bytes) : value]));
const answersOf = ({ answers }) => new Map(answers.map(([asked, ...answer]) => [key(asked), answer]));

/**
 * The model of a view that was saved: {state, answers}, and others, the same of its other pictures.
 * `otherwise` is asked what was not: it resolves to {content, buffers}, or rejects with an error
 * whose words are shown.
 */
export function standIn(saved, otherwise = missing) {
  const all = { ...saved.others, [saved.state.subject]: saved }, state = stateOf(saved);
  let answers = answersOf(saved);
  const answer = async (ask) => {
    if ("subject" in ask && all[ask.subject]) {
      answers = answersOf(all[ask.subject]);
      Object.assign(state, stateOf(all[ask.subject]));
      model.tell("change:subject");
      return { content: {} };
    }
    const [content, buffers] = answers.get(key(ask)) ?? [];
    return content ? { content, buffers: buffers.map(decode) } : otherwise(ask);
  };
  const model = local(state, answer);
  return model;
}

/** A view's script, of its text. */
export async function scriptOf(text) {
  const source = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  return (await import(source)).default;
}
