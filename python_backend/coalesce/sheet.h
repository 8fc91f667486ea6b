/* One answer to several requests, and each request's part of it. */
#pragma once

#include "bytes.h"
#include "triton.h"

#define MOST_OUTPUTS 8

#define TRY(call)                  \
    do {                           \
        Error *error_ = (call);    \
        if (error_) return error_; \
    } while (0)

static inline Error *failure(const char *text) { return TRITONSERVER_ErrorNew(ERROR_INTERNAL, text); }

static inline Error *refusal(const char *text) { return TRITONSERVER_ErrorNew(ERROR_INVALID_ARG, text); }

/* An error that nobody can act on any more. */
static inline void drop(Error *error) {
    if (error) TRITONSERVER_ErrorDelete(error);
}

/* One request of a call. */
typedef struct {
    Request *request;
    int32_t count;
    uint32_t outputs;
    const char *wanted[MOST_OUTPUTS];
} Member;

static inline bool asks_for(const Member *member, const char *output) {
    for (uint32_t i = 0; i < member->outputs; i++)
        if (strcmp(member->wanted[i], output) == 0) return true;
    return false;
}

/* One output of an answer. */
typedef struct {
    const char *name;
    int type;
    int64_t columns;
    const char *data;
    size_t row;
} Matrix;

/* An answer to several requests. */
typedef struct {
    Matrix matrices[MOST_OUTPUTS];
    uint32_t count;
    const int32_t *widths;
    const char *refusals, *refusals_end;
    const char *unsynced;
    size_t unsynced_size;
    const char *line;
    size_t line_size;
} Sheet;

/* One output of an answer to `members` requests of so many rows. */
static inline Error *read_part(Sheet *sheet, const char *name, int type, const int64_t *shape, uint64_t dims,
                               const void *data, size_t size, int64_t rows, uint32_t members) {
    if (strcmp(name, "refusals") == 0) {
        sheet->refusals = data;
        sheet->refusals_end = sheet->refusals + size;
    } else if (strcmp(name, "unsynced") == 0) {
        sheet->unsynced = data;
        sheet->unsynced_size = size;
    } else if (strcmp(name, "line") == 0) {
        sheet->line = data;
        sheet->line_size = size;
    } else if (strcmp(name, "widths") == 0) {
        if (size != members * sizeof *sheet->widths) return failure("widths: another number than of requests");
        sheet->widths = data;
    } else {
        if (dims != 2 || shape[0] != rows || !rows) return failure("an answer of another shape than asked for");
        if (sheet->count == MOST_OUTPUTS) return failure("an answer of too many outputs");
        sheet->matrices[sheet->count++] = (Matrix){name, type, shape[1], data, size / (size_t)rows};
    }
    return NULL;
}

static inline Error *read_output(Sheet *sheet, Answer *answer, uint32_t index, int64_t rows, uint32_t members) {
    const char *name;
    const int64_t *shape;
    const void *data;
    void *user;
    uint64_t dims;
    size_t size;
    int64_t memory_id;
    int type, memory;
    TRY(TRITONSERVER_InferenceResponseOutput(answer, index, &name, &type, &shape, &dims, &data, &size, &memory,
                                             &memory_id, &user));
    return read_part(sheet, name, type, shape, dims, data, size, rows, members);
}

static inline Error *read_sheet(Sheet *sheet, Answer *answer, int64_t rows, uint32_t members) {
    uint32_t outputs;
    TRY(TRITONSERVER_InferenceResponseOutputCount(answer, &outputs));
    for (uint32_t i = 0; i < outputs; i++) TRY(read_output(sheet, answer, i, rows, members));
    return NULL;
}

static inline const Matrix *matrix_of(const Sheet *sheet, const char *name) {
    for (uint32_t i = 0; i < sheet->count; i++)
        if (strcmp(sheet->matrices[i].name, name) == 0) return &sheet->matrices[i];
    return NULL;
}

/* The error in the next line of the refusals; NULL: that request is not refused. */
static inline Error *next_refusal(Sheet *sheet) {
    if (!sheet->refusals) return NULL;
    const char *line = sheet->refusals;
    const char *end = memchr(line, '\n', (size_t)(sheet->refusals_end - line));
    if (!end) return failure("an answer of too few refusals");
    sheet->refusals = end + 1;
    if (end == line) return NULL;
    char *text = must(strndup(line, (size_t)(end - line))), *message;
    int code = (int)strtol(text, &message, 10);
    Error *error = TRITONSERVER_ErrorNew(code, message + (*message == ' '));
    free(text);
    return error;
}

/* One output of one member, whose rows begin with `first`; `width`: how many of its columns are the member's. */
static inline Error *write_output(Response *response, const Matrix *matrix, int64_t first, int32_t rows, int64_t width) {
    const int64_t shape[] = {rows, width};
    size_t row = matrix->columns ? matrix->row / (size_t)matrix->columns * (size_t)width : 0;
    const char *from = matrix->data + (size_t)first * matrix->row;
    Output *output;
    void *data;
    int memory = MEMORY_CPU;
    int64_t memory_id = 0;
    TRY(TRITONBACKEND_ResponseOutput(response, &output, matrix->name, matrix->type, shape, 2));
    TRY(TRITONBACKEND_OutputBuffer(output, &data, row * (size_t)rows, &memory, &memory_id));
    if (memory == MEMORY_GPU) return failure("the answer is wanted in a device's memory; ask for the host's");
    for (int32_t r = 0; r < rows && row; r++) memcpy((char *)data + (size_t)r * row, from + (size_t)r * matrix->row, row);
    return NULL;
}

static inline Error *write_answer(Response *response, const Member *member, uint32_t place, int64_t first, const Sheet *sheet) {
    for (uint32_t i = 0; i < member->outputs; i++) {
        const Matrix *matrix = matrix_of(sheet, member->wanted[i]);
        if (!matrix) return failure("an answer that lacks an output");
        bool narrower = sheet->widths && strcmp(matrix->name, "features") == 0 && sheet->widths[place] < matrix->columns;
        TRY(write_output(response, matrix, first, member->count, narrower ? sheet->widths[place] : matrix->columns));
    }
    return NULL;
}
