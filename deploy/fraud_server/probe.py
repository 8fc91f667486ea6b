"""Ready means: the golden vectors came back right, to the bit, through the whole path."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from fraud_client import DeadlineExceeded, FraudClient, FraudClientError, Policy
from fraud_scoring.errors import STORE_AWAY, FraudError
from fraud_scoring.reasons import NOT_WORKED_OUT
from fraud_scoring.releases import golden_vectors, release_name
from fraud_scoring.routes import RoutesWatch
from fraud_scoring.wire import VERDICT_COLUMNS, VERDICT_RELEASE, VERDICT_SOURCE, Source

_REASON: Final = VERDICT_COLUMNS.index("reason_1")


class NotReady(FraudError):
    """The server does not answer."""


class Late(NotReady):
    """The server did not answer in time: busy, perhaps, and not dead."""


class Degraded(NotReady):
    """The server answers, and another than the release in production has answered."""


class StoreAway(NotReady):
    """The server answers, by the last resort, until its window store is back; to start it again mends nothing."""


class WrongAnswer(FraudError):
    """The server answers, and not what the release answered when it was made."""


class GoldenProbe:
    """Sends the golden vectors of production as a dry run; compares features, score and verdict bit by bit."""

    def __init__(self, repository: Path, url: str, client: FraudClient | None = None) -> None:
        self._repository = repository
        self._watch = RoutesWatch(repository)
        self._client = FraudClient(url, policy=Policy.plain()) if client is None else client
        self._url = url
        self._follow()

    @property
    def rows(self) -> int:
        """Transactions in the golden vectors."""
        return len(self._golden["transaction"])

    def check(self, timeout: float = 1.0) -> None:
        """Return if the answer is right; raise a NotReady or WrongAnswer if not. `timeout` in seconds."""
        with suppress(FraudError):  # a table that cannot be used changes nothing: the front door stays with the last
            self._follow()
        try:
            answer = self._client.score_rows(
                self._golden["transaction"], deadline=timeout, dry_run=True, with_features=True
            )
        except DeadlineExceeded:
            raise Late(f"{self._url} did not answer the golden vectors in {timeout:g} s") from None
        except FraudClientError as error:
            if STORE_AWAY in str(error):
                raise StoreAway(str(error)) from None
            raise NotReady(f"{self._url} does not answer: {error}") from None
        release = int(answer.verdict[0, VERDICT_RELEASE])
        if (source := int(answer.verdict[:, VERDICT_SOURCE].max())) >= Source.FALLBACK_RELEASE:
            raise Degraded(f"release {release_name(self.release)} does not answer, and {Source(source).name} does")
        if release != self.release and release in self._others:
            return  # the table was replaced a moment ago
        if (answer.verdict[:, _REASON] == NOT_WORKED_OUT).any():
            raise Late(f"{self._url} had no time for the reasons of the golden vectors in {timeout:g} s")
        for name, found in (("features", answer.features), ("score", answer.score), ("verdict", answer.verdict)):
            wanted = self._golden[name]
            if found is None or found.reshape(-1).tobytes() != wanted.reshape(-1).tobytes():
                raise WrongAnswer(
                    f"release {release_name(self.release)} does not give its golden vectors: {name} differs; "
                    "it was made with other code or libraries: train it again here, or restore the environment"
                )

    def close(self) -> None:
        self._client.close()

    def _follow(self) -> None:
        """Take the golden vectors of the release in production, if it is another one now."""
        routes = self._watch.news()
        if routes is None:
            return
        self.release = routes.production
        self._others = set(routes.loaded)
        self._golden = golden_vectors(self._repository, self.release)
