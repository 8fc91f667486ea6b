"""A release asked by itself, past the front door: does it give its golden vectors, to the bit?

The front door asks production; a canary, or what a rollback would go back to, is asked here. The golden transactions
belong to customers that exist nowhere else, and a release only reads the window store.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from fraud_scoring.errors import STORE_AWAY, FraudError
from fraud_scoring.releases import ensemble_name, golden_vectors, release_name
from fraud_scoring.wire import TRANSACTION
from fraud_server.probe import NotReady, StoreAway, WrongAnswer

_OUTPUTS: Final = ("features", "score", "verdict")
Ask = Callable[[int], None]
"""Returns if release (its number) is right; raises NotReady, StoreAway or WrongAnswer."""


def ask_release(repository: Path, url: str, release: int, timeout: float = 2.0) -> None:
    """Ask the server at `url` for the golden vectors of `release`; `timeout` in seconds."""
    import tritonclient.grpc as triton
    from tritonclient.utils import InferenceServerException

    golden = golden_vectors(repository, release)
    rows = golden["transaction"]
    given = triton.InferInput(TRANSACTION, list(rows.shape), "INT64")
    given.set_data_from_numpy(rows)
    wanted = [triton.InferRequestedOutput(name) for name in _OUTPUTS]
    with closing(triton.InferenceServerClient(url)) as client:
        try:
            answer = client.infer(ensemble_name(release), [given], outputs=wanted, client_timeout=timeout)
        except InferenceServerException as error:
            kind = StoreAway if STORE_AWAY in str(error) else NotReady
            raise kind(f"release {release_name(release)} does not answer: {error.message()}") from None
    for name in _OUTPUTS:
        found = answer.as_numpy(name)
        if found is None or found.reshape(-1).tobytes() != golden[name].reshape(-1).tobytes():
            raise WrongAnswer(f"release {release_name(release)} does not give its golden vectors: {name} differs")


def state_of(release: int, ask: Ask) -> tuple[str, bool]:
    """(what is to be told, whether it must not be asked): a release that is away is, and a wrong one must not be."""
    try:
        ask(release)
    except WrongAnswer as wrong:
        return str(wrong), True
    except FraudError as away:
        return str(away), False
    return "right", False
