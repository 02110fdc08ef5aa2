// A service worker: answers get the two headers that let a page have threads on a plain host.

const HEADERS = {
  "Cross-Origin-Embedder-Policy": "require-corp", "Cross-Origin-Opener-Policy": "same-origin",
};

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => event.respondWith(isolated(event.request)));

async function isolated(request) {
  const answer = await fetch(request), { status, statusText, body } = answer;
  if (!status) return answer; // of another origin: it cannot be changed
  const headers = new Headers(answer.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(body, { status, statusText, headers });
}
