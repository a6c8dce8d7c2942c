// What paints. The page knows its engine only through these functions, so that another engine can take the
// place of the server.

export class Engine {
  /** Where it paints. */
  connection = "Connected";

  async request(path, options = {}) {
    let response;
    try {
      response = await fetch(path, { ...options, headers: { "x-impasto": "1", ...options.headers } });
    } catch {
      throw new Error("the program does not answer; is it still running?");
    }
    if (!response.ok) {
      const text = await response.text();
      let problem = text;
      try {
        problem = JSON.parse(text).error;
      } catch {
        // Words as they are.
      }
      throw new Error(problem || `the program answers ${response.status}`);
    }
    const kind = response.headers.get("content-type") ?? "";
    return kind.startsWith("application/json") ? response.json() : null;
  }

  send(path, value) {
    const headers = { "content-type": "application/json" };
    return this.request(path, { method: "POST", headers, body: JSON.stringify(value ?? null) });
  }

  /** What there is to choose from. */
  info() {
    return this.request("api/info");
  }

  /** Takes a picture: its id, width and height. */
  addPicture(blob) {
    const headers = { "content-type": "application/octet-stream" };
    return this.request("api/pictures", { method: "POST", headers, body: blob });
  }

  /** Begins a job: its id. */
  start(settings) {
    return this.send("api/jobs", settings);
  }

  /** Changes the settings of a job that is painted. */
  steer(id, settings) {
    return this.send(`api/jobs/${id}/steer`, settings);
  }

  /** Pauses, continues, finishes or removes a job. */
  act(id, action) {
    return this.send(`api/jobs/${id}/${action}`);
  }

  /** The curves of a job so far. */
  curves(id) {
    return this.request(`api/jobs/${id}/curves`);
  }

  /**
   * Calls `heard` with every event, all that there is at first, and `connected` with whether the engine is
   * there. A page that nobody sees does not listen: browsers have few connections to give.
   */
  events(heard, connected) {
    let source = null;
    const open = () => {
      source?.close();
      source = new EventSource("api/events");
      source.onopen = () => connected(true);
      source.onmessage = (message) => heard(JSON.parse(message.data));
      source.onerror = () => {
        connected(false);
        // Refused, after which the browser does not try again.
        if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
      };
    };
    const listen = () => {
      if (!document.hidden) return open();
      source?.close();
      source = null;
    };
    document.addEventListener("visibilitychange", listen);
    listen();
  }

  /** A picture that was added, or a job's result (`job-1`), for an `img`; another version is another picture. */
  picture(id, small = false, version = "") {
    return `api/pictures/${id}?small=${small}&v=${version}`;
  }

  /** The picture of a job as it stands. */
  preview(job) {
    return `api/jobs/${job.id}/preview?v=${job.preview}`;
  }

  /** The result of a job, to keep. */
  result(id) {
    return `api/jobs/${id}/result`;
  }

  /** How a job was painted, to keep. */
  history(id) {
    return `api/jobs/${id}/history`;
  }
}
