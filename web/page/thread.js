// A thread of the kernels: a worker on the memory of the one that paints.

onmessage = async ({ data: { script, module, memory, faults } }) => {
  try {
    const { default: init, run_thread } = await import(script);
    await init({ module_or_path: module, memory });
    postMessage(null);
    // For good.
    run_thread();
  } catch (error) {
    // One of these is heard: before the thread has started, and after, when the other worker waits for it.
    postMessage(String(error));
    new BroadcastChannel(faults).postMessage(String(error));
  }
};
