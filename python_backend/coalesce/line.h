/* A line to the process of the target: a socket, over which a call costs a write and a read and not the way of Triton's
 * python backend. It is opened to the name that an answer over Triton had as its output `line`, an abstract Unix socket,
 * and shut at the first trouble: the call is then made over Triton, and again if the target had got it. It may: who asks
 * for an id again gets what was answered before.
 *
 *   to    u32 bytes of all that follows, rows, columns, requests, bytes of parameters, 1 where features are asked for
 *         rows INT64, members INT32, parameters
 *   from  u32 bytes of all that follows, outputs, error's code or 0, 0
 *         where it is an error, its text; else of each output
 *         char[16] name, u32 type, dimensions, i64 shape[2], u64 bytes; and its data, up to a multiple of eight bytes
 *
 * fraud_scoring/line.py is the other end. */
#pragma once

#include "sheet.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define SILENT_S 2 /* a target that says nothing for so long is asked over Triton, which knows whether it is there */
#define LINE_NAME 64

typedef struct {
    uint32_t bytes, rows, columns, requests, parameters, features;
} Said;

typedef struct {
    uint32_t bytes, outputs;
    int32_t code;
    uint32_t nothing;
} Heard;

typedef struct {
    char name[16];
    uint32_t type, dims;
    int64_t shape[2];
    uint64_t bytes;
} Part;

/* Of the one who makes the calls. */
typedef struct {
    int socket;
    Bytes said;
} Line;

static inline void line_shut(Line *line) {
    if (line->socket >= 0) close(line->socket);
    line->socket = -1;
}

static inline void line_open(Line *line, const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval silent = {.tv_sec = SILENT_S};
    size_t size = strnlen(name, LINE_NAME);
    memcpy(address.sun_path + 1, name, size);
    line->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (line->socket < 0) return;
    if (setsockopt(line->socket, SOL_SOCKET, SO_RCVTIMEO, &silent, sizeof silent) ||
        setsockopt(line->socket, SOL_SOCKET, SO_SNDTIMEO, &silent, sizeof silent) ||
        connect(line->socket, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + size)))
        line_shut(line);
}

static inline bool line_say(const Line *line) {
    for (size_t sent = 0; sent < line->said.size;) {
        ssize_t now = send(line->socket, line->said.data + sent, line->said.size - sent, MSG_NOSIGNAL);
        if (now < 0 && errno == EINTR) continue;
        if (now <= 0) return false;
        sent += (size_t)now;
    }
    return true;
}

/* At least `wanted` bytes of an answer in `heard`, with what came before; as a rule all of it at once. */
static inline bool line_fill(const Line *line, Bytes *heard, size_t wanted) {
    while (heard->size < wanted) {
        size_t before = heard->size, room = wanted - before > 65536 ? wanted - before : 65536;
        char *to = grow(heard, room);
        heard->size = before;
        ssize_t now = recv(line->socket, to, room, 0);
        if (now < 0 && errno == EINTR) continue;
        if (now <= 0) return false;
        heard->size += (size_t)now;
    }
    return true;
}

/* An answer into `heard`, whole. */
static inline bool line_hear(const Line *line, Bytes *heard) {
    heard->size = 0;
    if (!line_fill(line, heard, sizeof(Heard))) return false;
    size_t whole = sizeof(uint32_t) + ((const Heard *)heard->data)->bytes;
    return line_fill(line, heard, whole) && heard->size == whole;
}

/* Make a call over the line; false: it is shut, and nothing was heard. */
static inline bool line_call(Line *line, Said head, const Bytes *rows, const Bytes *members, const Bytes *parameters,
                             Bytes *heard) {
    Bytes *said = &line->said;
    head.bytes = (uint32_t)(sizeof head - sizeof head.bytes + rows->size + members->size + parameters->size);
    said->size = 0;
    add(said, &head, sizeof head);
    add(said, rows->data, rows->size);
    add(said, members->data, members->size);
    add(said, parameters->data, parameters->size);
    if (line_say(line) && line_hear(line, heard)) return true;
    line_shut(line);
    heard->size = 0;
    return false;
}

/* What was heard, as a sheet: where it does not hold together, or is an error, that error. */
static inline Error *read_heard(Sheet *sheet, const Bytes *heard, uint64_t rows, uint32_t members) {
    const char *at = heard->data + sizeof(Heard), *end = heard->data + heard->size;
    const Heard *head = (const Heard *)heard->data;
    if (head->code) {
        char *text = must(strndup(at, (size_t)(end - at)));
        Error *error = TRITONSERVER_ErrorNew(head->code, text);
        free(text);
        return error;
    }
    for (uint32_t i = 0; i < head->outputs; i++) {
        const Part *part = (const Part *)at;
        if ((size_t)(end - at) < sizeof *part) return failure("an answer that ends too soon");
        at += sizeof *part;
        uint64_t left = (uint64_t)(end - at), fill = -part->bytes % 8;
        if (left < part->bytes || left - part->bytes < fill) return failure("an answer that ends too soon");
        if (!memchr(part->name, 0, sizeof part->name)) return failure("an answer with a name that does not end");
        TRY(read_part(sheet, part->name, (int)part->type, part->shape, part->dims, at, part->bytes, rows, members));
        at += part->bytes + fill;
    }
    return NULL;
}
