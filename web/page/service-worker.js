// Serves the page from what was loaded once, so that it needs no network.

// Filled in by `web/build`: another version is another cache.
const VERSION = "VERSION_OF_THE_BUILD";
const FILES = ["FILES_OF_THE_BUILD"];

self.addEventListener("install", (event) => {
  const load = async () => {
    const cache = await caches.open(VERSION);
    await cache.addAll(FILES.map((file) => new Request(file, { cache: "no-cache" })));
  };
  event.waitUntil(load());
});

self.addEventListener("activate", (event) => {
  const clear = async () => {
    const names = await caches.keys();
    await Promise.all(names.filter((name) => name !== VERSION).map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(clear());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== self.location.origin) return;
  event.respondWith(answer(request));
});

/** A file with what a page must say to have threads: that nothing from elsewhere is mixed in. */
async function answer(request) {
  const cache = await caches.open(VERSION);
  const found = (await cache.match(request, { ignoreSearch: true })) ?? (await fetch(request));
  const headers = new Headers(found.headers);
  headers.set("cross-origin-opener-policy", "same-origin");
  headers.set("cross-origin-embedder-policy", "require-corp");
  const { status, statusText } = found;
  return new Response(found.body, { status, statusText, headers });
}
