/* A disk that loses what was not synced, for LD_PRELOAD.

   What is written to files under $LOST_WRITES_FOLDER stays in this process's memory until fsync or fdatasync of the file
   puts it on the real disk. A process that is killed takes the rest with it, as a machine does that loses power.
   LOST_WRITES_SYNC=0 makes a sync a lie: it returns 0 and nothing is written; a test that passes then proves nothing.
   What is created, renamed, truncated or removed is not held back. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 256

struct held {
    dev_t device;
    ino_t inode;
    char *bytes;
    size_t length, room;
};

static struct held files[FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_ours(int descriptor, struct stat *found) {
    const char *folder = getenv("LOST_WRITES_FOLDER");
    char link[64], path[4096];
    if (!folder || fstat(descriptor, found) || !S_ISREG(found->st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

/* The bytes that are held for a file; room is made for it if `make`. Call with the lock. */
static struct held *held_for(const struct stat *file, int make) {
    struct held *empty = NULL;
    for (int i = 0; i < FILES; i++) {
        if (files[i].length && files[i].device == file->st_dev && files[i].inode == file->st_ino) return &files[i];
        if (!files[i].length && !empty) empty = &files[i];
    }
    if (!make || !empty) return NULL;
    empty->device = file->st_dev;
    empty->inode = file->st_ino;
    return empty;
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
    struct stat file;
    if (!count || !is_ours(descriptor, &file)) return REAL(write)(descriptor, bytes, count);
    pthread_mutex_lock(&lock);
    struct held *held = held_for(&file, 1);
    if (!held) abort();
    if (held->length + count > held->room) {
        held->room = 2 * (held->length + count);
        held->bytes = realloc(held->bytes, held->room);
        if (!held->bytes) abort();
    }
    memcpy(held->bytes + held->length, bytes, count);
    held->length += count;
    pthread_mutex_unlock(&lock);
    return (ssize_t)count;
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    struct stat file;
    ssize_t total = 0;
    if (!is_ours(descriptor, &file)) return REAL(writev)(descriptor, parts, count);
    for (int i = 0; i < count; i++) total += write(descriptor, parts[i].iov_base, parts[i].iov_len);
    return total;
}

static void put_on_disk(int descriptor) {
    struct stat file;
    if (!is_ours(descriptor, &file)) return;
    pthread_mutex_lock(&lock);
    struct held *held = held_for(&file, 0);
    for (size_t done = 0; held && done < held->length;) {
        ssize_t wrote = REAL(write)(descriptor, held->bytes + done, held->length - done);
        if (wrote < 0) abort();
        done += (size_t)wrote;
    }
    if (held) held->length = 0;
    pthread_mutex_unlock(&lock);
}

static int lies(void) {
    const char *sync = getenv("LOST_WRITES_SYNC");
    return sync && strcmp(sync, "0") == 0;
}

/* The page cache outlives the process: what has been put there is as good as on the disk, and costs the test no time. */
int fdatasync(int descriptor) {
    if (!lies()) put_on_disk(descriptor);
    return 0;
}

int fsync(int descriptor) { return fdatasync(descriptor); }

static void forget_from(int descriptor, off_t length) {
    struct stat file;
    if (!is_ours(descriptor, &file)) return;
    pthread_mutex_lock(&lock);
    struct held *held = held_for(&file, 0);
    if (held) {
        off_t keep = length - file.st_size;
        held->length = keep <= 0 ? 0 : (size_t)keep < held->length ? (size_t)keep : held->length;
    }
    pthread_mutex_unlock(&lock);
}

static int cut(int descriptor, off_t length) {
    struct stat file;
    forget_from(descriptor, length);
    if (is_ours(descriptor, &file) && length > file.st_size) return 0; /* the rest is held */
    return REAL(ftruncate)(descriptor, length);
}

int ftruncate(int descriptor, off_t length) { return cut(descriptor, length); }
int ftruncate64(int descriptor, off64_t length) { return cut(descriptor, (off_t)length); }
