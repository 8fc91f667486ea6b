"""What may pass: four methods of the KServe v2 gRPC service, for two models.

A gRPC call names its model in the message and not in its path, so a path alone cannot tell fraud_score from the models
of a release. Envoy reads the name out of the first message by a description of it; ours has nothing but that field, and
whatever else a message holds is skipped, not decoded.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from google.protobuf import descriptor_pb2

from fraud_scoring.wire import FEEDBACK_MODEL, SCORE_MODEL

PACKAGE: Final = "inference"
SERVICE: Final = "GRPCInferenceService"
MODELS: Final = (SCORE_MODEL, FEEDBACK_MODEL)


@dataclass(frozen=True)
class Method:
    """`model_field`: where a request names its model, (name, number); None: it names none."""

    name: str
    model_field: tuple[str, int] | None = None

    @property
    def path(self) -> str:
        return f"/{PACKAGE}.{SERVICE}/{self.name}"


INFER: Final = Method("ModelInfer", ("model_name", 1))
METHODS: Final = (INFER, Method("ServerLive"), Method("ServerReady"), Method("ModelReady", ("name", 1)))
HEALTH: Final = tuple(method for method in METHODS if method is not INFER)
NAMES_A_MODEL: Final = tuple(method for method in METHODS if method.model_field)


def descriptors() -> str:
    """A FileDescriptorSet of the service, as far as the gateway reads it; base64."""
    text = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="gateway.proto", package=PACKAGE, syntax="proto3")
    service = file.service.add(name=SERVICE)
    for method in METHODS:
        request = file.message_type.add(name=f"{method.name}Request")
        file.message_type.add(name=f"{method.name}Response")
        service.method.add(
            name=method.name,
            input_type=f".{PACKAGE}.{method.name}Request",
            output_type=f".{PACKAGE}.{method.name}Response",
        )
        if method.model_field:
            name, number = method.model_field
            request.field.add(name=name, number=number, type=text.TYPE_STRING, label=text.LABEL_OPTIONAL)
    whole = descriptor_pb2.FileDescriptorSet(file=[file])
    return base64.b64encode(whole.SerializeToString(deterministic=True)).decode()
