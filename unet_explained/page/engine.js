// The networks: unpacked, started in a worker, and asked for a forward.

import { woven } from "./parts.js";

const MEGA = 10 ** 6;
const NETWORKS = ["text", "unet", "vae"];
const NEEDS = ["DecompressionStream", "WebAssembly", "Worker"];
const WHY = [
  [/bad_alloc|memory/i, "there is too little memory for the model, which takes up to 800 MB"],
  [/content security policy/i, "the content policy of this page's host forbids WebAssembly"],
];

/** Why nothing can run in this browser; "" if it can. */
export function whyNot() {
  const lacks = NEEDS.filter((name) => !(name in globalThis)).join(" and ");
  return lacks && `this browser is too old to run the model: it lacks ${lacks}`;
}

/** Half of the cores, where a page may have threads: two that share a core are slower than one. */
export function threads() {
  return globalThis.crossOriginIsolated ? Math.max(1, navigator.hardwareConcurrency >> 1) : 1;
}

/** The engine, started; told(words) hears how far it is. Rejects with what went wrong. */
export async function started(parts, worker, told) {
  const unpacked = await unpack(parts, told);
  const began = performance.now();
  const seconds = () => Math.round((performance.now() - began) / 1000);
  const tick = () => told(`starting the model: ${seconds()} s`);
  const timer = setInterval(tick, 1000);
  tick();
  const port = portOf(worker);
  try {
    const text = (name) => new TextDecoder().decode(unpacked[name]);
    const [script, glue] = ["ort", "glue"].map(text);
    await port.ask("start", { script, glue, binary: unpacked.wasm, threads: threads() });
    for (const name of NETWORKS) {
      const network = woven(new Uint8Array(unpacked[name]));
      await port.ask("open", { name, network }, [network.buffer]);
    }
  } catch (error) {
    port.close();
    throw error;
  } finally {
    clearInterval(timer);
  }
  /** outputs: the names of those that are asked for; without them all. */
  const run = (name, feeds, outputs) => port.ask("run", { name, feeds, outputs });
  return { run, close: port.close };
}

/** What is packed, as buffers by name. parts: {name: {size, chunks()}}, of which size is packed. */
async function unpack(parts, told) {
  const all = Object.values(parts).reduce((sum, { size }) => sum + size, 0), found = {};
  let done = 0;
  const count = (chunk) => {
    done += chunk.length;
    told(`unpacking the model: ${(done / MEGA).toFixed(1)} of ${(all / MEGA).toFixed(1)} MB`);
  };
  for (const [name, { chunks }] of Object.entries(parts))
    found[name] = await inflated(chunks(), count);
  return found;
}

/** The bytes of a gzip whose chunks come one by one. */
export function inflated(chunks, count = () => {}) {
  const source = new ReadableStream({
    async pull(controller) {
      const { value, done } = await chunks.next();
      if (done) return controller.close();
      count(value);
      controller.enqueue(value);
    },
  });
  return new Response(source.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** Questions to the worker, each with its answer. */
function portOf(source) {
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(address), waiting = new Map();
  let count = 0;
  const fail = (error) => {
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  worker.onmessage = ({ data: { number, result, error } }) => {
    const { resolve, reject } = waiting.get(number) ?? {};
    waiting.delete(number);
    if (error) reject?.(new Error(WHY.find(([sign]) => sign.test(error))?.[1] ?? error));
    else resolve?.(result);
  };
  worker.onerror = ({ message }) => fail(new Error(message || "its worker was not allowed"));
  const ask = (task, given, moved = []) =>
    new Promise((resolve, reject) => {
      waiting.set(++count, { resolve, reject });
      worker.postMessage({ number: count, task, given }, moved);
    });
  const close = () => {
    worker.terminate();
    fail(new Error("the engine was stopped"));
  };
  return { ask, close };
}
