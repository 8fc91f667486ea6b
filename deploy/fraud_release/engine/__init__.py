"""TensorRT engines of a release: built on the GPU they are for, checked by their answers, sealed beside the release.

cuda       the GPU of this machine, memory on it
toolkit    tensorrt 10 and 11, tensorrt_rtx: what each can; from a graph to a plan
running    a plan on the GPU, as a function from features to margins
answers    what it must answer: golden vectors, labelled rows, the gate for reduced precision
config     config.pbtxt for Triton's tensorrt backend
record     what an engine was built of, for and with; its folder; whether it may be served here
build      all of it in order
"""
