"""deploy/gateway: each example of settings is rendered, and Envoy started with it."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from fraud_deploy.check import Check, CheckFailed
from fraud_deploy.toolbox import Toolbox
from fraud_gateway.render import MAIN, render
from fraud_gateway.settings import Address, Gateway, InvalidGateway

READY_SECONDS: Final = 20.0
_HOST: Final = "127.0.0.1"


def checks() -> list[Check]:
    return [
        Check(
            "gateway.settings",
            ("gateway/*.yaml", "fraud_gateway/refusals.lua"),
            "run",
            ("envoy", "openssl"),
            _each_example_starts,
        )
    ]


def _each_example_starts(toolbox: Toolbox) -> None:
    for path in sorted((toolbox.deploy / "gateway").glob("*.yaml")):
        try:
            settings = Gateway.read(path)
        except InvalidGateway as error:
            raise CheckFailed(f"gateway/{path.name}: {error}") from None
        starts(toolbox, settings, toolbox.scratch / path.stem)


def starts(toolbox: Toolbox, settings: Gateway, folder: Path, drain_hook: str | None = None) -> None:
    """Envoy takes the rendered files and is ready; addresses and paths are this machine's instead of production's.

    `drain_hook` is what bash runs before a gateway ends; Envoy must do what it says.
    """
    with _free_ports(3) as (calls, metrics, drain):
        here = replace(
            settings,
            servers=tuple(Address(_HOST, 9 + index) for index, _ in enumerate(settings.servers)),
            listen=Address(_HOST, calls),
            metrics=Address(_HOST, metrics),
            drain=Address(_HOST, drain),
            tls=replace(settings.tls, folder=folder / "tls"),
            tokens=settings.tokens and replace(settings.tokens, jwks=folder / "jwks.json"),
            sockets=folder,
            configuration=folder / "configuration",
        )
    _files(toolbox, here)
    main = here.configuration / MAIN
    toolbox.run("envoy", "--mode", "validate", "-c", main, "--disable-hot-restart", "--log-level", "error")
    said = folder / "envoy.log"
    command = [str(toolbox.program("envoy")), "-c", str(main), "--disable-hot-restart", "--log-level", "warning"]
    with said.open("wb") as log:
        envoy = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        give_up = time.monotonic() + READY_SECONDS
        while not _is_ready(metrics):
            if envoy.poll() is not None or time.monotonic() > give_up:
                told = said.read_text(errors="replace").strip().splitlines()[-3:]
                raise CheckFailed(f"gateway/{folder.name}.yaml: Envoy does not become ready: {' | '.join(told)}")
            time.sleep(0.05)
        if "deprecated" in said.read_text(errors="replace").lower():
            raise CheckFailed(
                f"gateway/{folder.name}.yaml: Envoy says that a setting is deprecated: use what replaces it"
            )
        if drain_hook is not None:
            hook = drain_hook.replace(f"/{settings.drain.port};", f"/{drain};").rpartition("sleep ")[0] + "true"
            if " 200 OK" not in (answer := toolbox.run("bash", "-c", hook, timeout=20)):
                raise CheckFailed(f"{folder.name}: preStop must drain the gateway; it was answered: {answer[:80]!r}")
    finally:
        envoy.terminate()
        envoy.wait(READY_SECONDS)


def _files(toolbox: Toolbox, settings: Gateway) -> None:
    for name, text in render(settings).items():
        settings.configuration.mkdir(parents=True, exist_ok=True)
        (settings.configuration / name).write_text(text, encoding="utf-8")
    tls = settings.tls.folder
    tls.mkdir(parents=True)
    made = (
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=check",
    )
    toolbox.run("openssl", "req", *made, "-keyout", tls / "tls.key", "-out", tls / "tls.crt")
    (tls / "ca.crt").write_bytes((tls / "tls.crt").read_bytes())
    if settings.tokens:
        settings.tokens.jwks.write_text(json.dumps({"keys": []}), encoding="utf-8")


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{_HOST}:{port}/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    """Ports that nobody listens on, until the block ends."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((_HOST, 0))
        yield [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
