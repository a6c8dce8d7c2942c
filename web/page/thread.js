// A thread of the kernels: a worker on the memory of the one that paints.

onmessage = async ({ data: { script, module, memory } }) => {
  const { default: init, run_thread } = await import(script);
  await init({ module_or_path: module, memory });
  postMessage("ready");
  run_thread();
};
