// Stands in for Jupyter's widget model in a page without a kernel: a saved state, saved answers.

const saved = JSON.parse(document.getElementById("saved").textContent);
const decode = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const state = Object.fromEntries(
  Object.entries(saved.state).map(([name, value]) => [name, value?.bytes ? decode(value.bytes) : value]),
);
const key = (question) => JSON.stringify(Object.entries(question).sort());
const answers = new Map(saved.answers.map(([asked, ...answer]) => [key(asked), answer]));
const listeners = new Map();
const tell = (event, ...values) => (listeners.get(event) ?? []).forEach((hear) => hear(...values));

const model = {
  get: (name) => state[name],
  set(name, value) {
    state[name] = value;
    tell(`change:${name}`);
  },
  save_changes() {},
  on: (event, hear) => listeners.set(event, [...(listeners.get(event) ?? []), hear]),
  off: (event, hear) => listeners.set(event, (listeners.get(event) ?? []).filter((each) => each !== hear)),
  send({ number, ask }) {
    const [content, buffers] = answers.get(key(ask)) ?? [];
    const error = content ? undefined : "This is not in the saved page: open the notebook to see it.";
    setTimeout(() => tell("msg:custom", { number, content, error }, (buffers ?? []).map(decode)));
  },
};

const source = URL.createObjectURL(new Blob([saved.esm], { type: "text/javascript" }));
const view = (await import(source)).default;
view.render({ model, el: document.getElementById("view") });
