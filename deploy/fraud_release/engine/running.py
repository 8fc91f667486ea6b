"""A plan on this machine's GPU, as a function from features to margins. For checks and measurements: Triton serves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from fraud_release.engine.cuda import Cuda
from fraud_release.engine.toolkit import Profile, Toolkit
from fraud_release.errors import ReleaseRefused
from fraud_scoring.features import Float32
from fraud_scoring.pipeline import Margin


def profile_for(rows: int, profiles: Sequence[Profile]) -> int:
    """The place of the profile that a batch of `rows` runs in: of those that take it, the one that ends first."""
    fitting = [place for place, profile in enumerate(profiles) if profile.least <= rows <= profile.most]
    if not fitting:
        raise ReleaseRefused(f"the engine takes no batch of {rows} rows")
    return min(fitting, key=lambda place: profiles[place].most)


@contextmanager
def on_gpu(toolkit: Toolkit, plan: bytes, profiles: Sequence[Profile]) -> Iterator[Margin]:
    """The plan's margins FP32 [N, 1] for features FP32 [N, F]; everything on the GPU is given back at the end."""
    cuda = Cuda()
    engine = toolkit.load(plan)
    source, target = (engine.get_tensor_name(place) for place in range(2))
    width = int(engine.get_tensor_shape(source)[1])
    most = max(profile.most for profile in profiles)
    with ExitStack() as stack:
        stream = stack.enter_context(cuda.stream())
        inputs = stack.enter_context(cuda.memory(4 * most * width))
        outputs = stack.enter_context(cuda.memory(4 * most))
        contexts = []
        for place in range(len(profiles)):
            context = engine.create_execution_context()
            context.set_optimization_profile_async(place, stream)
            context.set_tensor_address(source, inputs)
            context.set_tensor_address(target, outputs)
            contexts.append(context)
        cuda.wait(stream)

        def margin(features: Float32) -> Float32:
            context = contexts[profile_for(len(features), profiles)]
            context.set_input_shape(source, features.shape)
            cuda.write(inputs, features)
            if not context.execute_async_v3(stream):
                raise ReleaseRefused(f"the engine does not run a batch of {len(features)} rows")
            cuda.wait(stream)
            out = np.empty((len(features), 1), np.float32)
            cuda.read(out, outputs)
            return out

        yield margin
