// Runs the networks away from the page's thread, which a forward would block. A classic worker:
// from disk browsers start no module worker, but let a classic one import a module made inside it.

let runtime;
const sessions = new Map();
const address = (source) => URL.createObjectURL(new Blob([source], { type: "text/javascript" }));

const tasks = {
  async start({ script, threads, glue, binary }) {
    runtime = await import(address(script));
    Object.assign(runtime.env.wasm, {
      numThreads: threads, wasmBinary: binary, wasmPaths: { mjs: address(glue) },
    });
    runtime.env.logLevel = "error";
    return {};
  },
  async open({ name, network }) {
    const session = await runtime.InferenceSession.create(network);
    sessions.set(name, session);
    return {};
  },
  /** feeds, and what comes back, by name: {type, data, dims}. */
  async run({ name, feeds, outputs }) {
    const given = Object.entries(feeds).map(([key, { type, data, dims }]) =>
      [key, new runtime.Tensor(type, data, dims)]);
    const session = sessions.get(name);
    const found = await session.run(Object.fromEntries(given), outputs ?? session.outputNames);
    const plain = Object.entries(found).map(([key, { data, dims }]) => [key, { data, dims }]);
    return Object.fromEntries(plain);
  },
};

onmessage = async ({ data: { number, task, given } }) => {
  try {
    const result = await tasks[task](given);
    // Of WASM's memory, which cannot be moved, the tensors are copies already.
    const buffers = Object.values(result).map(({ data }) => data.buffer);
    postMessage({ number, result }, [...new Set(buffers)]);
  } catch (error) {
    postMessage({ number, error: `${error?.message ?? error}` });
  }
};
