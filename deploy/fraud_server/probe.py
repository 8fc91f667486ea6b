"""Ready means: the golden vectors came back right, to the bit, through the whole path."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from fraud_client import DeadlineExceeded, FraudClient, FraudClientError, Policy
from fraud_scoring.errors import FraudError, ReleaseUnavailable
from fraud_scoring.releases import GOLDEN_FILE, ensemble_name, release_name
from fraud_scoring.routes import Routes


class NotReady(FraudError):
    """The server does not answer."""


class Late(NotReady):
    """The server did not answer in time: busy, perhaps, and not dead."""


class WrongAnswer(FraudError):
    """The server answers, and not what the release answered when it was made."""


class GoldenProbe:
    """Sends a release's golden vectors as a dry run, and compares features, score and verdict bit by bit."""

    def __init__(self, repository: Path, url: str, client: FraudClient | None = None) -> None:
        self.release = Routes.read(repository).production
        try:
            content = (repository / ensemble_name(self.release) / GOLDEN_FILE).read_bytes()
        except OSError:
            raise ReleaseUnavailable(f"release {release_name(self.release)} has no {GOLDEN_FILE}") from None
        self._golden = dict(np.load(io.BytesIO(content)))
        self._client = FraudClient(url, policy=Policy.plain()) if client is None else client
        self._url = url

    @property
    def rows(self) -> int:
        """Transactions in the golden vectors."""
        return len(self._golden["transaction"])

    def check(self, timeout: float = 1.0) -> None:
        """Return if the answer is right; raise NotReady, Late or WrongAnswer if not. `timeout` in seconds."""
        try:
            answer = self._client.score_rows(
                self._golden["transaction"], deadline=timeout, dry_run=True, with_features=True
            )
        except DeadlineExceeded:
            raise Late(f"{self._url} did not answer the golden vectors in {timeout:g} s") from None
        except FraudClientError as error:
            raise NotReady(f"{self._url} does not answer: {error}") from None
        for name, found in (("features", answer.features), ("score", answer.score), ("verdict", answer.verdict)):
            wanted = self._golden[name]
            if found is None or found.reshape(-1).tobytes() != wanted.reshape(-1).tobytes():
                raise WrongAnswer(
                    f"release {release_name(self.release)} does not give its golden vectors: {name} differs; "
                    "it was made with other code or libraries: train it again here, or restore the environment"
                )

    def close(self) -> None:
        self._client.close()
