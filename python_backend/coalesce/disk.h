/* What an answer names is brought to the disk before anybody is told the answer: the log of decisions, whose writer goes
 * on with the next call meanwhile.
 *
 * An answer's output `unsynced` is text: "SEGMENT SIZE\nPATH\nTOLD": of the file at PATH, the writer's segment of that
 * number, SIZE bytes must be on the disk. How far it is there, and that a sync failed, is told to the writer in the file
 * TOLD. After a failed sync nothing of that segment is promised any more: the kernel tells of a lost page only once.
 * fraud_scoring/decision_log/handover.py is the other end.
 *
 * Calls are settled in the order in which they were made, so that a segment is done with when the next one is named. */
#pragma once

#include "sheet.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_BITS 36 /* a segment's number lies above a place in it */

/* A place is a segment's number and a size of it; 0: none. */
typedef struct {
    _Atomic uint64_t synced; /* so far it is on the disk */
    _Atomic uint64_t lost;   /* a sync of this segment failed; behind this size nothing was acknowledged */
} Told;

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t calls, settled; /* made, and done with */
    Bytes path;              /* of the segment that is open, with its end */
    int file;
    Told *told;
} Disk;

static inline void disk_init(Disk *disk) {
    pthread_mutex_init(&disk->lock, NULL);
    pthread_cond_init(&disk->changed, NULL);
    disk->file = -1;
}

static inline void disk_close(Disk *disk) {
    if (disk->told) munmap(disk->told, sizeof *disk->told);
    if (disk->file >= 0) close(disk->file);
    disk->told = NULL;
    disk->file = -1;
    disk->path.size = 0;
}

static inline void disk_destroy(Disk *disk) {
    disk_close(disk);
    free(disk->path.data);
    pthread_cond_destroy(&disk->changed);
    pthread_mutex_destroy(&disk->lock);
}

static inline Told *map_told(const char *path) {
    struct stat found;
    int file = open(path, O_RDWR | O_CLOEXEC);
    void *told = MAP_FAILED;
    if (file >= 0 && fstat(file, &found) == 0 && found.st_size >= (off_t)sizeof(Told))
        told = mmap(NULL, sizeof(Told), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file >= 0) close(file);
    return told == MAP_FAILED ? NULL : told;
}

static inline bool disk_open(Disk *disk, const char *path, const char *told) {
    if (disk->told && strcmp(disk->path.data, path) == 0) return true;
    disk_close(disk);
    disk->file = open(path, O_RDONLY | O_CLOEXEC);
    disk->told = map_told(told);
    if (disk->file < 0 || !disk->told) {
        disk_close(disk);
        return false;
    }
    add(&disk->path, path, strlen(path) + 1);
    return true;
}

/* Bring a place of the open segment to the disk; where that fails, tell the writer, and never try that segment again. */
static inline bool disk_reach(Disk *disk, uint64_t place) {
    uint64_t segment = place >> SIZE_BITS, synced = disk->told->synced;
    if (disk->told->lost >> SIZE_BITS == segment) return false;
    int failed;
    do failed = fdatasync(disk->file);
    while (failed && errno == EINTR);
    if (failed)
        disk->told->lost = synced >> SIZE_BITS == segment ? synced : segment << SIZE_BITS;
    else
        disk->told->synced = place;
    return !failed;
}

static inline bool disk_has(Disk *disk, const char *named, size_t size) {
    char *text = must(strndup(named, size)), *path = strchr(text, '\n'), *told = path ? strchr(path + 1, '\n') : NULL;
    unsigned long long segment, bytes;
    bool is_there = false;
    if (told && sscanf(text, "%llu %llu", &segment, &bytes) == 2) {
        *told = 0;
        is_there = disk_open(disk, path + 1, told + 1) && disk_reach(disk, (uint64_t)segment << SIZE_BITS | bytes);
    }
    free(text);
    return is_there;
}

/* Settle the call that was the `number`th: what its answer names is on the disk, or the error is for all of it. */
static inline Error *settle(Disk *disk, uint64_t number, const Sheet *sheet) {
    pthread_mutex_lock(&disk->lock);
    while (disk->settled != number) pthread_cond_wait(&disk->changed, &disk->lock);
    bool is_there = !sheet->unsynced || disk_has(disk, sheet->unsynced, sheet->unsynced_size);
    disk->settled++;
    pthread_cond_broadcast(&disk->changed);
    pthread_mutex_unlock(&disk->lock);
    return is_there ? NULL
                    : TRITONSERVER_ErrorNew(ERROR_UNAVAILABLE,
                                            "the decision log could not be brought to the disk; ask again, with the same id");
}
