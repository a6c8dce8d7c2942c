// Serves the page from what was loaded once, so that it needs no network.

// Filled in by `web/build`: another version is another cache.
const VERSION = "VERSION_OF_THE_BUILD";
const POLICY = "POLICY_OF_THE_BUILD";
const FILES = ["FILES_OF_THE_BUILD"];

/** Caches of this page: others may be served from the same host. */
const isOurs = (name) => name.startsWith("impasto-") && name.endsWith(self.registration.scope);
const cacheName = () => `${VERSION} ${self.registration.scope}`;

self.addEventListener("install", (event) => {
  const load = async () => {
    const cache = await caches.open(cacheName());
    // Under an address of this version, which no cache on the way has in another.
    await cache.addAll(FILES.map((file) => new Request(`${file}?${VERSION}`, { cache: "no-cache" })));
  };
  event.waitUntil(load());
});

self.addEventListener("activate", (event) => {
  const clear = async () => {
    const names = (await caches.keys()).filter((name) => isOurs(name) && name !== cacheName());
    await Promise.all(names.map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(clear());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== self.location.origin) return;
  event.respondWith(answer(request));
});

/**
 * A file with the policy of the page, and with what a page must say to have threads: that nothing from elsewhere is
 * mixed in.
 */
async function answer(request) {
  const cache = await caches.open(cacheName());
  const found = (await cache.match(request, { ignoreSearch: true })) ?? (await fetch(request));
  if (!found.ok) return found;
  const headers = new Headers(found.headers);
  headers.set("content-security-policy", POLICY);
  headers.set("cross-origin-opener-policy", "same-origin");
  headers.set("cross-origin-embedder-policy", "require-corp");
  const { status, statusText } = found;
  return new Response(found.body, { status, statusText, headers });
}
