"""config.pbtxt of an engine for Triton's tensorrt backend: what it is told, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fraud_release.engine.toolkit import Profile

MAX_BATCH_SIZE: Final = 4096
"""As the front door's: it joins requests of up to 1,024 rows into batches of up to this, and sends each in one call."""
PROFILES: Final = (Profile(1, 64, 256), Profile(1, 1024, MAX_BATCH_SIZE))
"""The first for what waits while a batch is answered (tens of rows), the second for requests of many rows."""
PREFERRED: Final = (8, 16, 32, 64, 128, 256)


def engine_config(name: str, features: int, profiles: Sequence[Profile] = PROFILES, instances: int = 1) -> str:
    """The text of config.pbtxt.

    A CUDA graph is launched as one, where a batch has exactly its size: the lower bound is the size itself, as a graph
    that is used for fewer rows reads what was left in the rest. Busy waiting costs a core and saves a wake-up.
    """
    sizes = (1, *PREFERRED)
    graphs = "\n".join(_graph(size, features) for size in sizes)
    listed = ", ".join(f'"{place}"' for place in range(len(profiles)))
    return f"""name: "{name}"
platform: "tensorrt_plan"
backend: "tensorrt"
max_batch_size: {max(profile.most for profile in profiles)}
input {{ name: "features" data_type: TYPE_FP32 dims: [ {features} ] }}
output {{ name: "margin" data_type: TYPE_FP32 dims: [ 1 ] }}
dynamic_batching {{ preferred_batch_size: [ {", ".join(map(str, PREFERRED))} ] max_queue_delay_microseconds: 0 }}
instance_group {{ count: {instances} kind: KIND_GPU profile: [ {listed} ] }}
optimization {{
  cuda {{
    graphs: true
    busy_wait_events: true
{graphs}
    output_copy_stream: true
  }}
  input_pinned_memory {{ enable: true }}
  output_pinned_memory {{ enable: true }}
}}
"""


def _graph(size: int, features: int) -> str:
    shape = f'batch_size: {size} input {{ key: "features" value {{ dim: [ {features} ] }} }}'
    return f"    graph_spec {{ {shape} graph_lower_bound {{ {shape} }} }}"
