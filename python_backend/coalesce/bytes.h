/* Bytes that grow, and JSON text in them. Without memory the process ends. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Kept from call to call. */
typedef struct {
    char *data;
    size_t size, room;
} Bytes;

static inline void *must(void *memory) {
    if (!memory) {
        fputs("coalesce: no memory\n", stderr);
        abort();
    }
    return memory;
}

/* Room for `size` more bytes, which count as there. */
static inline void *grow(Bytes *bytes, size_t size) {
    if (bytes->size + size > bytes->room) {
        bytes->room = 2 * (bytes->size + size);
        bytes->data = must(realloc(bytes->data, bytes->room));
    }
    bytes->size += size;
    return bytes->data + bytes->size - size;
}

static inline void add(Bytes *bytes, const void *data, size_t size) {
    if (size) memcpy(grow(bytes, size), data, size);
}

static inline void add_text(Bytes *bytes, const char *text) { add(bytes, text, strlen(text)); }

/* A JSON string. */
static inline void add_string(Bytes *bytes, const char *text) {
    add_text(bytes, "\"");
    for (; *text; text++) {
        char escaped[8];
        if (*text == '"' || *text == '\\')
            snprintf(escaped, sizeof escaped, "\\%c", *text);
        else if ((unsigned char)*text < ' ')
            snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)*text);
        else
            snprintf(escaped, sizeof escaped, "%c", *text);
        add_text(bytes, escaped);
    }
    add_text(bytes, "\"");
}
