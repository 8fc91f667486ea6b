"""A real MLflow server on a free port, its artifacts in an S3 that moto plays; both end with the `with`."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from support.server import free_ports, until

START_SECONDS: Final = 120
BUCKET: Final = "releases"


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """The URL of a server whose database is in `folder` and whose files are in the bucket."""
    s3_port, port, _ = free_ports()
    s3, url = f"http://127.0.0.1:{s3_port}", f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_S3_ENDPOINT_URL": s3,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    bucket = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(s3_port)]
    server = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    server += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.sqlite'}"]
    server += ["--artifacts-destination", f"s3://{BUCKET}/fraud"]
    with _running(bucket, environment, folder / "s3.log"), _running(server, environment, folder / "mlflow.log"):
        _wait_for(s3)
        urllib.request.urlopen(urllib.request.Request(f"{s3}/{BUCKET}", method="PUT"), timeout=30).close()
        _wait_for(f"{url}/health")
        yield url


@contextmanager
def _running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def _wait_for(url: str) -> None:
    def answers() -> bool:
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5):
            return True
        return False

    until(answers, START_SECONDS)
