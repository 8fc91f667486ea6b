/* The calls of the CUDA driver that fraud_release.engine.cuda makes, on a device whose memory is the main memory.
 * What is not as the real driver has it: no kernels. Refuses what the real one refuses: freeing or copying what is not its
 * own, copying beyond an allocation. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID_VALUE = 1, NOT_INITIALIZED = 3, NO_DEVICE = 100, MOST = 64 };
static int initialized, current;
static struct { uint64_t address; size_t size; } memory[MOST];

static int place(uint64_t address, size_t size) {
    for (int i = 0; i < MOST; i++)
        if (memory[i].size && address >= memory[i].address && address + size <= memory[i].address + memory[i].size)
            return i;
    return -1;
}

int cuInit(unsigned flags) { initialized = flags == 0; return getenv("FAKE_CUDA_NONE") ? NO_DEVICE : OK; }
int cuDeviceGet(int *device, int ordinal) { *device = 7; return initialized && ordinal == 0 ? OK : NOT_INITIALIZED; }
int cuDeviceGetName(char *name, int size, int device) {
    strncpy(name, "Main Memory 1", size);
    return device == 7 ? OK : INVALID_VALUE;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : 9;
    return device == 7 && (attribute == 75 || attribute == 76) ? OK : INVALID_VALUE;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &current; return device == 7 ? OK : INVALID_VALUE; }
int cuCtxSetCurrent(void *context) { current = 1; return context == &current ? OK : INVALID_VALUE; }
int cuMemAlloc_v2(uint64_t *address, size_t size) {
    for (int i = 0; current && i < MOST; i++)
        if (!memory[i].size) {
            *address = memory[i].address = (uint64_t)(uintptr_t)malloc(size);
            memory[i].size = size;
            return OK;
        }
    return INVALID_VALUE;
}
int cuMemFree_v2(uint64_t address) {
    int i = place(address, 0);
    if (i < 0 || memory[i].address != address) return INVALID_VALUE;
    free((void *)(uintptr_t)address);
    memory[i].size = 0;
    return OK;
}
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t size) {
    if (place(to, size) < 0) return INVALID_VALUE;
    memcpy((void *)(uintptr_t)to, from, size);
    return OK;
}
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size) {
    if (place(from, size) < 0) return INVALID_VALUE;
    memcpy(to, (void *)(uintptr_t)from, size);
    return OK;
}
int cuStreamCreate(void **stream, unsigned flags) { *stream = malloc(1); return flags == 1 ? OK : INVALID_VALUE; }
int cuStreamDestroy_v2(void *stream) { free(stream); return OK; }
int cuStreamSynchronize(void *stream) { return stream ? OK : INVALID_VALUE; }
int in_use(void) { int n = 0; for (int i = 0; i < MOST; i++) n += memory[i].size > 0; return n; }
