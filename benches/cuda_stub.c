/* A CUDA driver without a GPU: what CubeCL's runtime calls, with memory of the host and launches that do
 * nothing. With it NVRTC compiles every kernel of a run on a machine without an NVIDIA GPU: see nvrtc.sh.
 *
 * STUB_ARCH is the compute capability that it claims (80, 90, ...), STUB_PTX a folder for the compiled
 * kernels, STUB_LOG a file for the launches. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long pointer;

static int arch(void) {
    const char *named = getenv("STUB_ARCH");
    return named ? atoi(named) : 90;
}

/* CUdevice_attribute, of those that are asked for. */
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break;       /* threads of a block, its sides */
    case 4: *value = 64; break;
    case 5: *value = 2147483647; break;                 /* sides of a grid */
    case 6: case 7: *value = 65535; break;
    case 10: *value = 32; break;                        /* warp */
    case 16: *value = arch() >= 90 ? 132 : 108; break;  /* multiprocessors */
    case 75: *value = arch() / 10; break;
    case 76: *value = arch() % 10; break;
    case 97: *value = arch() >= 90 ? 232448 : 166912; break; /* shared memory of a block */
    default: *value = 1;
    }
    return 0;
}

int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "stub", length); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)80 << 30; return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) { *free = *total = (size_t)80 << 30; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)1; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
int cuCtxSetCurrent(void *context) { return 0; }
int cuCtxGetCurrent(void **context) { *context = (void *)1; return 0; }
int cuCtxSynchronize(void) { return 0; }

static int allocate(void *to, size_t bytes) {
    *(void **)to = calloc(1, bytes ? bytes : 1);
    return 0;
}
int cuMemAlloc_v2(pointer *to, size_t bytes) { return allocate(to, bytes); }
int cuMemAllocAsync(pointer *to, size_t bytes, void *stream) { return allocate(to, bytes); }
int cuMemAllocHost_v2(void **to, size_t bytes) { return allocate(to, bytes); }
int cuMemFree_v2(pointer from) { free((void *)from); return 0; }
int cuMemFreeAsync(pointer from, void *stream) { free((void *)from); return 0; }
int cuMemFreeHost(void *from) { free(from); return 0; }
int cuMemcpyHtoDAsync_v2(pointer to, const void *from, size_t bytes, void *stream) {
    memcpy((void *)to, from, bytes);
    return 0;
}
int cuMemcpyDtoHAsync_v2(void *to, pointer from, size_t bytes, void *stream) {
    memcpy(to, (void *)from, bytes);
    return 0;
}
int cuMemcpyDtoDAsync_v2(pointer to, pointer from, size_t bytes, void *stream) {
    memmove((void *)to, (void *)from, bytes);
    return 0;
}

/* CUDA_MEMCPY2D, between host and device alike. */
struct copy_2d {
    size_t from_x, from_y;
    int from_type;
    const void *from_host;
    pointer from_device;
    void *from_array;
    size_t from_pitch, to_x, to_y;
    int to_type;
    void *to_host;
    pointer to_device;
    void *to_array;
    size_t to_pitch, width, height;
};
int cuMemcpy2DAsync_v2(const struct copy_2d *copy, void *stream) {
    const char *from = copy->from_type == 1 ? copy->from_host : (const char *)copy->from_device;
    char *to = copy->to_type == 1 ? copy->to_host : (char *)copy->to_device;
    for (size_t row = 0; row < copy->height; row++)
        memcpy(to + (copy->to_y + row) * copy->to_pitch + copy->to_x,
               from + (copy->from_y + row) * copy->from_pitch + copy->from_x, copy->width);
    return 0;
}

int cuStreamCreate(void **stream, unsigned flags) { *stream = (void *)2; return 0; }
int cuStreamDestroy_v2(void *stream) { return 0; }
int cuStreamSynchronize(void *stream) { return 0; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return 0; }
int cuEventCreate(void **event, unsigned flags) { *event = (void *)3; return 0; }
int cuEventDestroy_v2(void *event) { return 0; }
int cuEventRecord(void *event, void *stream) { return 0; }
int cuEventSynchronize(void *event) { return 0; }

int cuModuleLoadData(void **module, const void *image) {
    static int count;
    const char *folder = getenv("STUB_PTX");
    *module = (void *)4;
    if (folder) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%03d.ptx", folder, count++);
        FILE *file = fopen(path, "w");
        if (!file) return 999;
        fputs(image, file);
        fclose(file);
    }
    return 0;
}
int cuModuleUnload(void *module) { return 0; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = strdup(name);
    return 0;
}
int cuFuncSetAttribute(void *function, int attribute, int value) { return 0; }
int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared, void *stream, void **arguments, void **extra) {
    const char *log = getenv("STUB_LOG");
    if (log) {
        FILE *file = fopen(log, "a");
        if (!file) return 999;
        fprintf(file, "%s %u %u %u %u %u\n", (char *)function, x, y, z, block_x * block_y * block_z, shared);
        fclose(file);
    }
    return 0;
}
int cuGetErrorString(int error, const char **text) { *text = "an error of the stub"; return 0; }
int cuGetErrorName(int error, const char **text) { *text = "STUB"; return 0; }
/* NVRTC looks for these, and does without. */
int cuGetExportTable(const void **table, const void *id) { *table = 0; return 500; }
