// Threads on a plain host: a service worker beside the page sets the headers that they need.

/** The page comes again once, isolated, unless it is already, or a hand has touched it. */
export function isolate() {
  const workers = navigator.serviceWorker;
  if (globalThis.crossOriginIsolated || !workers || workers.controller) return;
  let touched = false;
  for (const event of ["pointerdown", "keydown"])
    addEventListener(event, () => { touched = true; }, { once: true });
  workers.addEventListener("controllerchange", () => touched || location.reload());
  workers.register("isolated.js").catch(() => {}); // without it there is one thread, as is said
}
