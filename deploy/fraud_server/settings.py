"""What the embedded server is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fraud_release.trust import TrustSettings
from fraud_scoring.settings import INLINE

RESTORING_FILE: Final = "restoring.json"
"""In a home while an archive is put back into it: what lies there is not whole."""

LOOPBACK: Final = "127.0.0.1"
EVERYWHERE: Final = "0.0.0.0"
"""Only inside a container, where nothing but the gateway gets in."""


@dataclass(frozen=True)
class Ports:
    """TCP ports; all but gRPC and metrics are on the loopback interface, whatever the server is told."""

    grpc: int = 8001
    http: int = 8000
    metrics: int = 8002
    sidecar: int | None = None
    """Of the drift sidecar; None: it is not started."""


@dataclass(frozen=True)
class ServeSettings:
    """`home` holds what the server keeps (the store) and what it needs while it runs (run/)."""

    repository: Path
    home: Path
    ports: Ports
    store_url: str
    log_mode: str = "durable"
    """durable, async, or off."""
    models: str = INLINE
    """Where releases' graphs run: `fraud_scoring.settings`."""
    release_key: Path | None = None
    """File of the public keys that releases must be signed by; None: FRAUD_RELEASE_KEY's, or the home folder's."""

    listen: str = LOOPBACK
    """Where gRPC and metrics listen: loopback, or everywhere for a gateway in another container. HTTP never does:
    its calls load and unload models."""

    @property
    def trust(self) -> TrustSettings:
        """Whom this server trusts; InvalidDefinition where no key is pinned."""
        return TrustSettings.read(self.home, self.release_key)

    @property
    def run_folder(self) -> Path:
        return self.home / "run"

    @property
    def store_ids(self) -> Path:
        """The folder that remembers which window store was there."""
        return store_ids(self.home)

    @property
    def log_folder(self) -> Path:
        return self.home / "log"

    @property
    def log_key(self) -> Path:
        return self.home / "keys" / "decision-log.key"

    @property
    def url(self) -> str:
        return f"{LOOPBACK}:{self.ports.grpc}"


def store_ids(home: Path) -> Path:
    """The folder of a home that remembers which window store was there."""
    return home / "store-ids"
