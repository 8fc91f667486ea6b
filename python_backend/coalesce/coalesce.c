/* A Triton backend that answers what waits by ONE call of another model of the same server.
 *
 * Triton's python backend pays for each request and for each tensor of each answer, in two processes. Here all requests
 * that wait become one request of a few tensors, and its answer is taken apart again in the server's own memory. While
 * one call is out, what arrives is collected for the next; while what an answer rests on is brought to the disk, and it is
 * handed out, the next call is out already.
 * The model that is called is the parameter `target` of the model's configuration. What passes between the two:
 *
 *   in   transaction  INT64 [N, C]   the rows of all requests, in their order
 *        members      INT32 [M]      rows of each request
 *        parameters   UINT8 [P]      a line for each request: its parameters as a JSON object, or nothing
 *        and the request's id, "coalesce": who asks so brings to the disk what is `unsynced`
 *   out  each output that a request asked for, [N, …]
 *        widths       INT32 [M]      columns of each request's `features`, where they differ
 *        refusals     UINT8 [R]      where a request is refused: a line for each, its error's code and text, or nothing
 *        unsynced     UINT8 [U]      what must be on the disk before the answer is handed out: disk.h
 *        line         UINT8 [L]      over which to call from now on, past Triton: line.h
 *
 * fraud_scoring/coalesced.py is the other end. Without memory the process ends, and is started anew.
 */
#include "disk.h"
#include "line.h"

#include <time.h>

#define MOST_ROWS 4096 /* in one call; a single request may have more, and is then refused by the target */
#define NANOSECONDS UINT64_C(1000000000)
#define LATE (NANOSECONDS / 10) /* a call that is out for longer */

/* A model: what waits, and whose turn it is to call. */
typedef struct {
    Server *server;
    Allocator *allocator;
    char target[128];
    pthread_mutex_t lock;
    pthread_cond_t turn;
    Bytes waiting;    /* Request * */
    bool out, next;   /* a call is out; somebody waits to make the next one */
    uint64_t called;  /* when the last call began */
    Disk disk;
    char named[LINE_NAME + 1]; /* a line that is not opened yet */
    Line line;                 /* of the one who has a call out */
} Door;

/* A model instance: the call that it makes. */
typedef struct {
    Door *door;
    Instance *instance;
    Bytes rows, counts, parameters, members;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool released, answered;
    Answer *answer;
    Bytes heard; /* an answer that came over the line */
    uint64_t number, began, asked; /* the call's place among all */
} Desk;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NANOSECONDS + (uint64_t)t.tv_nsec;
}

/* ---- requests in ---- */

/* A parameter's value as JSON. */
static void add_value(Bytes *bytes, int type, const void *value) {
    char number[40];
    switch (type) {
        case PARAMETER_STRING:
            add_string(bytes, value);
            break;
        case PARAMETER_INT:
            snprintf(number, sizeof number, "%lld", (long long)*(const int64_t *)value);
            add_text(bytes, number);
            break;
        case PARAMETER_DOUBLE:
            snprintf(number, sizeof number, "%.17g", *(const double *)value);
            add_text(bytes, number);
            break;
        case PARAMETER_BOOL:
            add_text(bytes, *(const bool *)value ? "true" : "false");
            break;
        default:
            add_text(bytes, "null");
    }
}

/* A line with a request's parameters as a JSON object; an empty one where it has none. */
static Error *add_parameters(Bytes *lines, Request *request) {
    uint32_t count;
    TRY(TRITONBACKEND_RequestParameterCount(request, &count));
    for (uint32_t i = 0; i < count; i++) {
        const char *key;
        const void *value;
        int type;
        TRY(TRITONBACKEND_RequestParameter(request, i, &key, &type, &value));
        add_text(lines, i ? "," : "{");
        add_string(lines, key);
        add_text(lines, ":");
        add_value(lines, type, value);
    }
    add_text(lines, count ? "}\n" : "\n");
    return NULL;
}

/* A request's rows into `rows`, and what else is to be known of it. */
static Error *read_member(Member *member, int64_t *width, Bytes *rows) {
    Request *request = member->request;
    Input *input;
    const int64_t *shape;
    uint32_t dims, pieces;
    size_t before = rows->size;
    TRY(TRITONBACKEND_RequestInput(request, "transaction", &input));
    TRY(TRITONBACKEND_InputProperties(input, NULL, NULL, &shape, &dims, NULL, &pieces));
    for (uint32_t i = 0; i < pieces; i++) {
        const void *piece;
        uint64_t size;
        int memory = MEMORY_CPU;
        int64_t memory_id = 0;
        TRY(TRITONBACKEND_InputBuffer(input, i, &piece, &size, &memory, &memory_id));
        if (memory == MEMORY_GPU) return refusal("transaction: send it in the host's memory");
        add(rows, piece, size);
    }
    if (dims != 2 || rows->size - before != (size_t)(shape[0] * shape[1]) * sizeof(int64_t))
        return refusal("transaction: its bytes are not those of its shape");
    member->count = (int32_t)shape[0];
    *width = shape[1];
    TRY(TRITONBACKEND_RequestOutputCount(request, &member->outputs));
    if (member->outputs > MOST_OUTPUTS) return refusal("too many outputs are asked for");
    for (uint32_t i = 0; i < member->outputs; i++) TRY(TRITONBACKEND_RequestOutputName(request, i, &member->wanted[i]));
    return NULL;
}

static uint32_t members_of(const Desk *desk) { return (uint32_t)(desk->members.size / sizeof(Member)); }

/* Answer and release a request that has no part in a call; the error is the caller's. */
static void refuse(Instance *instance, Request *request, Error *error) {
    Response *response;
    Error *fault = TRITONBACKEND_ResponseNew(&response, request);
    drop(fault ? fault : TRITONBACKEND_ResponseSend(response, RESPONSE_FINAL, error));
    drop(TRITONBACKEND_ModelInstanceReportStatistics(instance, request, false, 0, 0, 0, 0));
    drop(TRITONBACKEND_RequestRelease(request, RELEASE_ALL));
}

/* Lay the first of what waits on the desk, as many as have one width and are not too many rows; what cannot be read is
 * refused alone. The caller has the lock. */
static void lay_out(Desk *desk, int64_t *rows, int64_t *width) {
    Bytes *waiting = &desk->door->waiting;
    Request **requests = (Request **)waiting->data;
    uint32_t count = (uint32_t)(waiting->size / sizeof *requests), taken = 0;
    desk->rows.size = desk->counts.size = desk->parameters.size = desk->members.size = 0;
    *rows = *width = 0;
    for (; taken < count; taken++) {
        int64_t columns = 0;
        Member member = {.request = requests[taken]};
        size_t rows_before = desk->rows.size, lines_before = desk->parameters.size;
        Error *error = read_member(&member, &columns, &desk->rows);
        if (!error && *rows && (columns != *width || *rows + member.count > MOST_ROWS)) {
            desk->rows.size = rows_before;
            break;
        }
        if (!error) error = add_parameters(&desk->parameters, member.request);
        if (error) {
            desk->rows.size = rows_before;
            desk->parameters.size = lines_before;
            refuse(desk->instance, member.request, error);
            drop(error);
            continue;
        }
        *width = columns;
        *rows += member.count;
        add(&desk->members, &member, sizeof member);
        add(&desk->counts, &member.count, sizeof member.count);
    }
    waiting->size -= taken * sizeof *requests;
    memmove(requests, requests + taken, waiting->size);
}

/* ---- the call ---- */

static Error *allocate(Allocator *allocator, const char *name, size_t size, int memory, int64_t memory_id, void *user,
                       void **buffer, void **buffer_user, int *actual_memory, int64_t *actual_memory_id) {
    (void)allocator, (void)name, (void)memory, (void)memory_id, (void)user;
    *buffer = size ? must(malloc(size)) : NULL;
    *buffer_user = NULL;
    *actual_memory = MEMORY_CPU;
    *actual_memory_id = 0;
    return NULL;
}

static Error *give_back(Allocator *allocator, void *buffer, void *user, size_t size, int memory, int64_t memory_id) {
    (void)allocator, (void)user, (void)size, (void)memory, (void)memory_id;
    free(buffer);
    return NULL;
}

static void on_released(Call *call, uint32_t flags, void *user) {
    (void)flags;
    Desk *desk = user;
    drop(TRITONSERVER_InferenceRequestDelete(call));
    pthread_mutex_lock(&desk->lock);
    desk->released = true;
    pthread_cond_signal(&desk->changed);
    pthread_mutex_unlock(&desk->lock);
}

static void on_answered(Answer *answer, uint32_t flags, void *user) {
    (void)flags;
    Desk *desk = user;
    pthread_mutex_lock(&desk->lock);
    desk->answer = answer;
    desk->answered = true;
    pthread_cond_signal(&desk->changed);
    pthread_mutex_unlock(&desk->lock);
}

static Error *add_input(Call *call, const char *name, int type, const int64_t *shape, uint64_t dims, const Bytes *data) {
    TRY(TRITONSERVER_InferenceRequestAddInput(call, name, type, shape, dims));
    return TRITONSERVER_InferenceRequestAppendInputData(call, name, data->data, data->size, MEMORY_CPU, 0);
}

/* Ask for what any of the members asks for, and for what is sent where it is needed. */
static Error *add_outputs(Call *call, const Member *members, uint32_t count) {
    const char *asked[MOST_OUTPUTS];
    uint32_t known = 0;
    TRY(TRITONSERVER_InferenceRequestAddRequestedOutput(call, "widths"));
    TRY(TRITONSERVER_InferenceRequestAddRequestedOutput(call, "refusals"));
    TRY(TRITONSERVER_InferenceRequestAddRequestedOutput(call, "unsynced"));
    TRY(TRITONSERVER_InferenceRequestAddRequestedOutput(call, "line"));
    for (uint32_t m = 0; m < count; m++) {
        for (uint32_t i = 0; i < members[m].outputs; i++) {
            uint32_t at = 0;
            while (at < known && strcmp(asked[at], members[m].wanted[i]) != 0) at++;
            if (at < known) continue;
            if (known == MOST_OUTPUTS) return failure("too many outputs are asked for");
            asked[known++] = members[m].wanted[i];
            TRY(TRITONSERVER_InferenceRequestAddRequestedOutput(call, members[m].wanted[i]));
        }
    }
    return NULL;
}

static Error *send_off(Call *call, Desk *desk, int64_t rows, int64_t width) {
    uint32_t count = members_of(desk);
    const int64_t matrix[] = {rows, width}, line[] = {count}, text[] = {(int64_t)desk->parameters.size};
    TRY(add_input(call, "transaction", TYPE_INT64, matrix, 2, &desk->rows));
    TRY(add_input(call, "members", TYPE_INT32, line, 1, &desk->counts));
    TRY(add_input(call, "parameters", TYPE_UINT8, text, 1, &desk->parameters));
    TRY(add_outputs(call, (const Member *)desk->members.data, count));
    TRY(TRITONSERVER_InferenceRequestSetId(call, "coalesce"));
    TRY(TRITONSERVER_InferenceRequestSetReleaseCallback(call, on_released, desk));
    TRY(TRITONSERVER_InferenceRequestSetResponseCallback(call, desk->door->allocator, NULL, on_answered, desk));
    return TRITONSERVER_ServerInferAsync(desk->door->server, call, NULL);
}

/* Call the target with what lies on the desk over the line; false: there is none, or it was shut. */
static bool call_by_line(Desk *desk, int64_t rows, int64_t width) {
    Line *line = &desk->door->line;
    const Member *members = (const Member *)desk->members.data;
    Said head = {.rows = (uint32_t)rows,
                 .columns = (uint32_t)width,
                 .requests = members_of(desk),
                 .parameters = (uint32_t)desk->parameters.size};
    for (uint32_t m = 0; m < head.requests && !head.features; m++) head.features = asks_for(&members[m], "features");
    return line->socket >= 0 && line_call(line, head, &desk->rows, &desk->counts, &desk->parameters, &desk->heard);
}

/* The same over Triton. */
static Error *call_by_triton(Desk *desk, int64_t rows, int64_t width) {
    Call *call;
    TRY(TRITONSERVER_InferenceRequestNew(&call, desk->door->server, desk->door->target, -1));
    desk->answer = NULL;
    desk->released = desk->answered = false;
    Error *error = send_off(call, desk, rows, width);
    if (error) {
        drop(TRITONSERVER_InferenceRequestDelete(call));
        return error;
    }
    pthread_mutex_lock(&desk->lock);
    while (!desk->released || !desk->answered) pthread_cond_wait(&desk->changed, &desk->lock);
    pthread_mutex_unlock(&desk->lock);
    return desk->answer ? NULL : failure("no answer");
}

/* ---- the answer, handed out ---- */

/* Answer one request, with `error` where there is one, which stays the caller's. */
static void respond(const Member *member, uint32_t place, int64_t first, const Sheet *sheet, Error *error) {
    Response *response;
    Error *fault = TRITONBACKEND_ResponseNew(&response, member->request);
    if (fault) {
        drop(fault);
        return;
    }
    if (!error) error = fault = write_answer(response, member, place, first, sheet);
    drop(TRITONBACKEND_ResponseSend(response, RESPONSE_FINAL, error));
    drop(fault);
}

/* The next call is made over the line that an answer named. */
static void name_line(Door *door, const Sheet *sheet) {
    pthread_mutex_lock(&door->lock);
    if (sheet->line_size <= LINE_NAME) {
        memcpy(door->named, sheet->line, sheet->line_size);
        door->named[sheet->line_size] = 0;
    }
    pthread_mutex_unlock(&door->lock);
}

/* Read the answer that lies on the desk. The error is the caller's where it is `owned`. */
static Error *read_answer(Desk *desk, Sheet *sheet, int64_t rows, bool *owned) {
    *owned = true;
    if (desk->heard.size) return read_heard(sheet, &desk->heard, rows, members_of(desk));
    Error *error = TRITONSERVER_InferenceResponseError(desk->answer);
    *owned = !error;
    return error ? error : read_sheet(sheet, desk->answer, rows, members_of(desk));
}

/* Settle, answer and release what lies on the desk; an `error` is for all of it. To Triton's statistics a request that the
 * target refuses is a success, as it is with the python backend. */
static void hand_out(Desk *desk, int64_t rows, Error *error) {
    Sheet sheet = {0};
    const Member *members = (const Member *)desk->members.data;
    int64_t first = 0;
    bool owned = true;
    Error *refused = error ? error : read_answer(desk, &sheet, rows, &owned);
    if (owned) error = refused;
    if (sheet.line) name_line(desk->door, &sheet);
    Error *lost = settle(&desk->door->disk, desk->number, &sheet);
    if (refused)
        drop(lost);
    else
        refused = error = lost;
    uint64_t answered = now();
    for (uint32_t i = 0; i < members_of(desk); i++) {
        Error *own = refused ? NULL : next_refusal(&sheet);
        respond(&members[i], i, first, &sheet, refused ? refused : own);
        drop(own);
        first += members[i].count;
        drop(TRITONBACKEND_ModelInstanceReportStatistics(desk->instance, members[i].request, !refused, desk->began,
                                                         desk->asked, answered, now()));
        drop(TRITONBACKEND_RequestRelease(members[i].request, RELEASE_ALL));
    }
    drop(error);
    if (desk->answer) drop(TRITONSERVER_InferenceResponseDelete(desk->answer));
    desk->answer = NULL;
    desk->heard.size = 0;
    drop(TRITONBACKEND_ModelInstanceReportBatchStatistics(desk->instance, (uint64_t)rows, desk->began, desk->asked, answered,
                                                          now()));
}

/* Take what waits, call for it and answer it. The caller has the lock, and the turn. */
static void work(Desk *desk) {
    Door *door = desk->door;
    int64_t rows, width;
    door->out = true;
    door->called = desk->began = now();
    lay_out(desk, &rows, &width);
    if (*door->named) {
        line_shut(&door->line);
        line_open(&door->line, door->named);
        *door->named = 0;
    }
    if (members_of(desk)) desk->number = door->disk.calls++;
    pthread_mutex_unlock(&door->lock);
    desk->asked = now();
    Error *error = NULL;
    if (members_of(desk) && !call_by_line(desk, rows, width)) error = call_by_triton(desk, rows, width);
    pthread_mutex_lock(&door->lock);
    door->out = false;
    pthread_cond_broadcast(&door->turn);
    pthread_mutex_unlock(&door->lock);
    if (members_of(desk)) hand_out(desk, rows, error);
    pthread_mutex_lock(&door->lock);
}

/* ---- what Triton calls ---- */

Error *TRITONBACKEND_Initialize(Backend *backend) {
    (void)backend;
    uint32_t major, minor;
    TRY(TRITONBACKEND_ApiVersion(&major, &minor));
    return major == API_MAJOR ? NULL
                              : TRITONSERVER_ErrorNew(ERROR_UNSUPPORTED, "coalesce: made for version 1 of Triton's API");
}

static Error *find_target(Door *door, const char *text, size_t size) {
    static const char before[] = "\"target\":{\"string_value\":\"";
    const char *at = memmem(text, size, before, strlen(before));
    const char *name = at ? at + strlen(before) : NULL;
    const char *end = at ? memchr(name, '"', size - (size_t)(name - text)) : NULL;
    if (!end || end == name || (size_t)(end - name) >= sizeof door->target)
        return TRITONSERVER_ErrorNew(ERROR_INVALID_ARG, "coalesce: name the model to call in the parameter target");
    memcpy(door->target, name, (size_t)(end - name));
    return NULL;
}

static Error *read_target(Door *door, Model *model) {
    Message *message;
    const char *text;
    size_t size;
    TRY(TRITONBACKEND_ModelConfig(model, 1, &message));
    Error *error = TRITONSERVER_MessageSerializeToJson(message, &text, &size);
    if (!error) error = find_target(door, text, size);
    drop(TRITONSERVER_MessageDelete(message));
    return error;
}

Error *TRITONBACKEND_ModelInitialize(Model *model) {
    Door *door = must(calloc(1, sizeof *door));
    pthread_mutex_init(&door->lock, NULL);
    pthread_cond_init(&door->turn, NULL);
    disk_init(&door->disk);
    door->line.socket = -1;
    Error *error = read_target(door, model);
    if (!error) error = TRITONBACKEND_ModelServer(model, &door->server);
    if (!error) error = TRITONSERVER_ResponseAllocatorNew(&door->allocator, allocate, give_back, NULL);
    if (!error) error = TRITONBACKEND_ModelSetState(model, door);
    if (error) free(door);
    return error;
}

Error *TRITONBACKEND_ModelFinalize(Model *model) {
    void *state;
    TRY(TRITONBACKEND_ModelState(model, &state));
    Door *door = state;
    if (!door) return NULL;
    Error *error = TRITONSERVER_ResponseAllocatorDelete(door->allocator);
    disk_destroy(&door->disk);
    pthread_cond_destroy(&door->turn);
    pthread_mutex_destroy(&door->lock);
    line_shut(&door->line);
    free(door->line.said.data);
    free(door->waiting.data);
    free(door);
    return error;
}

Error *TRITONBACKEND_ModelInstanceInitialize(Instance *instance) {
    Model *model;
    void *door;
    TRY(TRITONBACKEND_ModelInstanceModel(instance, &model));
    TRY(TRITONBACKEND_ModelState(model, &door));
    Desk *desk = must(calloc(1, sizeof *desk));
    desk->door = door;
    desk->instance = instance;
    pthread_mutex_init(&desk->lock, NULL);
    pthread_cond_init(&desk->changed, NULL);
    return TRITONBACKEND_ModelInstanceSetState(instance, desk);
}

Error *TRITONBACKEND_ModelInstanceFinalize(Instance *instance) {
    void *state;
    TRY(TRITONBACKEND_ModelInstanceState(instance, &state));
    Desk *desk = state;
    if (!desk) return NULL;
    pthread_cond_destroy(&desk->changed);
    pthread_mutex_destroy(&desk->lock);
    free(desk->rows.data);
    free(desk->counts.data);
    free(desk->parameters.data);
    free(desk->members.data);
    free(desk->heard.data);
    free(desk);
    return NULL;
}

/* One instance has a call out, one waits for its turn and then takes all that waits; the others collect. While a call is
 * late they stop collecting, so that Triton's own figures show that requests wait. */
Error *TRITONBACKEND_ModelInstanceExecute(Instance *instance, Request **requests, uint32_t count) {
    void *state;
    TRY(TRITONBACKEND_ModelInstanceState(instance, &state));
    Desk *desk = state;
    Door *door = desk->door;
    pthread_mutex_lock(&door->lock);
    add(&door->waiting, requests, count * sizeof *requests);
    while (door->waiting.size) {
        bool somebody_is_next = door->next;
        if (somebody_is_next && now() - door->called < LATE) break;
        if (somebody_is_next || door->out) {
            door->next = true;
            pthread_cond_wait(&door->turn, &door->lock);
            if (!somebody_is_next) door->next = false;
        } else {
            work(desk);
        }
    }
    pthread_mutex_unlock(&door->lock);
    return NULL;
}
