// A thread of the kernels: a worker on the memory of the one that paints.

onmessage = async ({ data: { script, module, memory, faults } }) => {
  let run;
  try {
    const { default: init, run_thread } = await import(script);
    await init({ module_or_path: module, memory });
    run = run_thread;
    postMessage(null);
  } catch (error) {
    return postMessage(String(error));
  }
  try {
    // For good.
    run();
  } catch (error) {
    // The worker that paints hears nothing: it waits for this thread.
    new BroadcastChannel(faults).postMessage(String(error));
  }
};
