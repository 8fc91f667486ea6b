"""The embedded server: the real tritonserver of the nvidia-pytriton wheel, started, probed, supervised and drained."""
