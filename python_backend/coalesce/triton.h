/* What the backend uses of Triton's C API for backends and for in-process inference, version 1: opaque handles, a few
 * numbers, and functions that tritonserver itself provides when it loads the library. Documented in
 * triton-inference-server/core, include/triton/core/{tritonbackend,tritonserver}.h. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { API_MAJOR = 1 };
enum { ERROR_INTERNAL = 1, ERROR_INVALID_ARG = 3, ERROR_UNAVAILABLE = 4, ERROR_UNSUPPORTED = 5 };
enum { MEMORY_CPU = 0, MEMORY_GPU = 2 };
enum { PARAMETER_STRING = 0, PARAMETER_INT = 1, PARAMETER_BOOL = 2, PARAMETER_DOUBLE = 3 };
enum { TYPE_UINT8 = 2, TYPE_INT32 = 8, TYPE_INT64 = 9 };
enum { RELEASE_ALL = 1, RESPONSE_FINAL = 1 };

typedef struct TRITONSERVER_Error Error;
typedef struct TRITONSERVER_Message Message;
typedef struct TRITONSERVER_Server Server;
typedef struct TRITONSERVER_ResponseAllocator Allocator;
typedef struct TRITONSERVER_InferenceRequest Call;
typedef struct TRITONSERVER_InferenceResponse Answer;
typedef struct TRITONSERVER_InferenceTrace Trace;
typedef struct TRITONBACKEND_Backend Backend;
typedef struct TRITONBACKEND_Model Model;
typedef struct TRITONBACKEND_ModelInstance Instance;
typedef struct TRITONBACKEND_Request Request;
typedef struct TRITONBACKEND_Response Response;
typedef struct TRITONBACKEND_Input Input;
typedef struct TRITONBACKEND_Output Output;

typedef Error *AllocateFn(Allocator *, const char *name, size_t size, int memory, int64_t memory_id, void *user,
                          void **buffer, void **buffer_user, int *actual_memory, int64_t *actual_memory_id);
typedef Error *FreeFn(Allocator *, void *buffer, void *buffer_user, size_t size, int memory, int64_t memory_id);
typedef void ReleasedFn(Call *, uint32_t flags, void *user);
typedef void AnsweredFn(Answer *, uint32_t flags, void *user);

Error *TRITONSERVER_ErrorNew(int code, const char *message);
void TRITONSERVER_ErrorDelete(Error *);
Error *TRITONSERVER_MessageSerializeToJson(Message *, const char **text, size_t *size);
Error *TRITONSERVER_MessageDelete(Message *);

Error *TRITONSERVER_ResponseAllocatorNew(Allocator **, AllocateFn *, FreeFn *, void *start);
Error *TRITONSERVER_ResponseAllocatorDelete(Allocator *);
Error *TRITONSERVER_InferenceRequestNew(Call **, Server *, const char *model, int64_t version);
Error *TRITONSERVER_InferenceRequestDelete(Call *);
Error *TRITONSERVER_InferenceRequestAddInput(Call *, const char *name, int type, const int64_t *shape, uint64_t dims);
Error *TRITONSERVER_InferenceRequestAppendInputData(Call *, const char *name, const void *data, size_t size, int memory,
                                                    int64_t memory_id);
Error *TRITONSERVER_InferenceRequestAddRequestedOutput(Call *, const char *name);
Error *TRITONSERVER_InferenceRequestSetId(Call *, const char *id);
Error *TRITONSERVER_InferenceRequestSetReleaseCallback(Call *, ReleasedFn *, void *user);
Error *TRITONSERVER_InferenceRequestSetResponseCallback(Call *, Allocator *, void *allocator_user, AnsweredFn *, void *user);
Error *TRITONSERVER_ServerInferAsync(Server *, Call *, Trace *);
Error *TRITONSERVER_InferenceResponseError(Answer *);
Error *TRITONSERVER_InferenceResponseOutputCount(Answer *, uint32_t *count);
Error *TRITONSERVER_InferenceResponseOutput(Answer *, uint32_t index, const char **name, int *type, const int64_t **shape,
                                            uint64_t *dims, const void **data, size_t *size, int *memory,
                                            int64_t *memory_id, void **user);
Error *TRITONSERVER_InferenceResponseDelete(Answer *);

Error *TRITONBACKEND_ApiVersion(uint32_t *major, uint32_t *minor);
Error *TRITONBACKEND_ModelConfig(Model *, uint32_t version, Message **);
Error *TRITONBACKEND_ModelServer(Model *, Server **);
Error *TRITONBACKEND_ModelState(Model *, void **);
Error *TRITONBACKEND_ModelSetState(Model *, void *);
Error *TRITONBACKEND_ModelInstanceModel(Instance *, Model **);
Error *TRITONBACKEND_ModelInstanceState(Instance *, void **);
Error *TRITONBACKEND_ModelInstanceSetState(Instance *, void *);
Error *TRITONBACKEND_ModelInstanceReportStatistics(Instance *, Request *, bool success, uint64_t start,
                                                   uint64_t compute_start, uint64_t compute_end, uint64_t end);
Error *TRITONBACKEND_ModelInstanceReportBatchStatistics(Instance *, uint64_t rows, uint64_t start, uint64_t compute_start,
                                                        uint64_t compute_end, uint64_t end);
Error *TRITONBACKEND_RequestInput(Request *, const char *name, Input **);
Error *TRITONBACKEND_RequestOutputCount(Request *, uint32_t *count);
Error *TRITONBACKEND_RequestOutputName(Request *, uint32_t index, const char **name);
Error *TRITONBACKEND_RequestParameterCount(Request *, uint32_t *count);
Error *TRITONBACKEND_RequestParameter(Request *, uint32_t index, const char **key, int *type, const void **value);
Error *TRITONBACKEND_RequestRelease(Request *, uint32_t flags);
Error *TRITONBACKEND_InputProperties(Input *, const char **name, int *type, const int64_t **shape, uint32_t *dims,
                                     uint64_t *size, uint32_t *buffers);
Error *TRITONBACKEND_InputBuffer(Input *, uint32_t index, const void **data, uint64_t *size, int *memory,
                                 int64_t *memory_id);
Error *TRITONBACKEND_ResponseNew(Response **, Request *);
Error *TRITONBACKEND_ResponseOutput(Response *, Output **, const char *name, int type, const int64_t *shape, uint32_t dims);
Error *TRITONBACKEND_OutputBuffer(Output *, void **data, uint64_t size, int *memory, int64_t *memory_id);
Error *TRITONBACKEND_ResponseSend(Response *, uint32_t flags, Error *);

/* What this library is to Triton. */
#define EXPORTED __attribute__((visibility("default")))
EXPORTED Error *TRITONBACKEND_Initialize(Backend *);
EXPORTED Error *TRITONBACKEND_ModelInitialize(Model *);
EXPORTED Error *TRITONBACKEND_ModelFinalize(Model *);
EXPORTED Error *TRITONBACKEND_ModelInstanceInitialize(Instance *);
EXPORTED Error *TRITONBACKEND_ModelInstanceFinalize(Instance *);
EXPORTED Error *TRITONBACKEND_ModelInstanceExecute(Instance *, Request **, uint32_t count);
