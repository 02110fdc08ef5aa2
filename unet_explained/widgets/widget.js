// What every view's script begins with: elements without markup, and questions to Python.

const SVG = "http://www.w3.org/2000/svg";

/** An element; text from anywhere goes through textContent, never through markup. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

// Of numbers that are NaN or infinite: Python sends null, and they are striped in two greys.
export const LOST = "not finite";
export const striped = (x, y, wide) => (Math.floor((x + y) / wide) % 2 ? [128, 128, 128] : [96, 96, 96]);

/** An element of an SVG. */
export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  // JupyterLab takes arrow keys for its cells unless the very element that has the focus objects.
  if (["input", "select", "button"].includes(element.localName) || "tabindex" in attributes)
    element.setAttribute("data-lm-suppress-shortcuts", "");
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/**
 * Ways to ask Python: ask(question) resolves to {content, buffers}, or rejects with its words.
 * Kernels that are gone never answer; so after `patience` milliseconds the page says so.
 */
export function asking(model, patience = 60000) {
  let count = 0;
  const waiting = new Map();
  const hear = (message, buffers) => {
    if (!waiting.has(message.number)) return;
    const { resolve, reject, timer } = waiting.get(message.number);
    clearTimeout(timer);
    waiting.delete(message.number);
    if (message.error) reject(new Error(message.error));
    else resolve({ content: message.content, buffers });
  };
  model.on("msg:custom", hear);
  const ask = (question) =>
    new Promise((resolve, reject) => {
      const number = `${Date.now()}-${Math.random()}-${count++}`;
      const gone = () => {
        waiting.delete(number);
        reject(new Error("nothing answers: is the kernel running? If it was restarted, run the cell again"));
      };
      const timer = setTimeout(gone, patience);
      waiting.set(number, { resolve, reject, timer });
      try {
        model.send({ number, ask: question });
      } catch { // to a kernel that was restarted
        clearTimeout(timer);
        gone();
      }
    });
  return { ask, close: () => model.off("msg:custom", hear) };
}

/** The bytes of a DataView as unsigned numbers. */
export function bytes(view) {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
