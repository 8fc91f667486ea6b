"""`python -m drift_sidecar`: the sidecar as a process of its own. Exit code 0: stopped on purpose; 1: cannot go on;
2: bad usage.
"""

from __future__ import annotations

import logging
import sys
import threading

from drift_sidecar.errors import CannotFollow
from drift_sidecar.service import Sidecar
from drift_sidecar.settings import SidecarSettings
from fraud_scoring.errors import FraudError
from fraud_scoring.stopping import on_stop

log = logging.getLogger("drift_sidecar")


def main() -> int:
    """Follow the log until SIGTERM or SIGINT; one line on standard error for each thing that happens."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s sidecar: %(message)s", level=logging.INFO)
    stop = threading.Event()
    on_stop(stop.set)
    try:
        settings = SidecarSettings.read()
    except CannotFollow as error:
        log.error("%s", error)
        return 2
    try:
        sidecar = Sidecar(settings, log.info)
        log.info(
            "ready on http://%s:%d, %s rows counted so far", settings.host, sidecar.port, f"{sidecar.books.rows:,}"
        )
        sidecar.run(stop)
    except FraudError as error:
        log.error("%s", error)
        return 1
    log.info("stopped: %s rows counted, and kept", f"{sidecar.books.rows:,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
