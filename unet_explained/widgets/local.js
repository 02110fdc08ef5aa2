// A widget's model that lives in a page alone: its state, and whoever answers its questions.

/** answer(question) resolves to {content, buffers}, or rejects with words. */
export function local(state, answer) {
  const listeners = new Map();
  const hearing = (event) => listeners.get(event) ?? [];
  const tell = (event, ...values) => hearing(event).forEach((hear) => hear(...values));
  return {
    tell,
    get: (name) => state[name],
    set(name, value) {
      state[name] = value;
      tell(`change:${name}`);
    },
    save_changes() {},
    on: (event, hear) => listeners.set(event, [...hearing(event), hear]),
    off: (event, hear) => listeners.set(event, hearing(event).filter((each) => each !== hear)),
    send: ({ number, ask }) => answer(ask).then(
      ({ content, buffers = [] }) => tell("msg:custom", { number, content }, buffers),
      ({ message }) => tell("msg:custom", { number, error: message }, []),
    ),
  };
}
