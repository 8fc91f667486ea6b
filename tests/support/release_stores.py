"""Signed releases without a model in them, and the stores that keep them: a folder, and a bucket that moto plays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_release.assembly import next_release, write_release
from fraud_release.signing import new_statement
from fraud_release.statement import sign
from fraud_release.trust import TrustSettings
from fraud_scoring.key_files import public_text
from fraud_scoring.releases import DECISION_FILE, GOLDEN_FILE, MODEL_FILE, SCHEMA_FILE
from fraud_server.ports import free_ports
from support.rows import DEFAULT_SCHEMA

KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TRUST: Final = TrustSettings((public_text(KEY),))
BUCKET: Final = "releases"


def write_release_by_name(repository: Path, content: bytes = b"graph") -> int:
    """The next release, signed: whole by every file, and without a model that could answer."""
    artifacts = {
        SCHEMA_FILE: DEFAULT_SCHEMA.document.encode(),
        MODEL_FILE: content * 40,
        DECISION_FILE: b'{"release": 1}',
        GOLDEN_FILE: b"golden",
    }
    with next_release(repository) as number:
        write_release(
            repository,
            number,
            DEFAULT_SCHEMA,
            artifacts,
            {},
            lambda digests: sign(new_statement(repository, number, digests, KEY), KEY),
        )
    return number


@contextmanager
def bucket() -> Iterator[str]:
    """The URL of an empty store in a bucket, as long as the `with` lasts; boto3 is told where by the environment."""
    import boto3
    from moto.server import ThreadedMotoServer

    (port,) = free_ports(1)
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        try:
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            yield f"s3://{BUCKET}/production"
        finally:
            server.stop()
