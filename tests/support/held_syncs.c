/* A disk whose syncs wait or fail, for LD_PRELOAD: of files under $HELD_SYNCS_FOLDER.

   A file `asked` in $HELD_SYNCS_TOLD appears when one is asked for; it waits as long as a file `hold` lies there, and
   fails where a file `fail` does. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_ours(int descriptor) {
    const char *folder = getenv("HELD_SYNCS_FOLDER");
    char link[64], path[4096];
    if (!folder) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

static const char *told(const char *name, char *path, size_t room) {
    snprintf(path, room, "%s/%s", getenv("HELD_SYNCS_TOLD"), name);
    return path;
}

int fdatasync(int descriptor) {
    char path[4096];
    if (!is_ours(descriptor)) return REAL(fdatasync)(descriptor);
    int asked = open(told("asked", path, sizeof path), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (asked >= 0) close(asked);
    while (access(told("hold", path, sizeof path), F_OK) == 0) usleep(1000);
    if (access(told("fail", path, sizeof path), F_OK) != 0) return REAL(fdatasync)(descriptor);
    errno = EIO;
    return -1;
}
