"""deploy/compose: by its schema and our rules; its gateway, Redis and Prometheus by the programs that read them."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from fraud_deploy.check import Check, CheckFailed
from fraud_deploy.checks import gateway
from fraud_deploy.compose_files import drain_hook, findings
from fraud_deploy.toolbox import ProgramFailed, Toolbox
from fraud_gateway.settings import Gateway

_MAIN: Final = "compose/compose.yaml"
_READY_SECONDS: Final = 20.0
_SECRETS_FOLDER: Final = "/run/secrets"


def checks() -> list[Check]:
    return [
        Check("compose.schema", (_MAIN,), "schema", ("check-jsonschema",), _schema_takes_it),
        Check("compose.rules", (_MAIN, "compose/images.env.example"), "lint", (), _rules_hold),
        Check("compose.secrets", ("compose/make-secrets",), "run", ("openssl",), _secrets_are_drawn_once),
        Check(
            "compose.redis", ("compose/redis.conf",), "run", ("redis-server", "redis-cli"), _redis_asks_for_its_password
        ),
        Check("compose.gateway", ("compose/gateway.yaml",), "run", ("envoy", "openssl"), _gateway_starts),
        Check("compose.prometheus", ("compose/prometheus.yml",), "schema", ("promtool",), _prometheus_takes_it),
        Check("compose.grafana", ("compose/grafana/*.yaml",), "lint", (), _grafana_finds_what_is_mounted),
    ]


def _document(toolbox: Toolbox) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((toolbox.deploy / _MAIN).read_text(encoding="utf-8"))
    return found


def _schema_takes_it(toolbox: Toolbox) -> None:
    toolbox.run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", toolbox.deploy / _MAIN)


def _rules_hold(toolbox: Toolbox) -> None:
    found = findings(_document(toolbox))
    text = (toolbox.deploy / _MAIN).read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{([A-Z_]+)", text))
    named = set(re.findall(r"^([A-Z_]+)=", (toolbox.deploy / "compose" / "images.env.example").read_text(), re.M))
    found += [f"images.env.example: {name} is asked for or named, and not both" for name in sorted(asked ^ named)]
    if found:
        raise CheckFailed("\n".join(found))


def _make_secrets(toolbox: Toolbox) -> Path:
    folder = toolbox.scratch / "secrets"
    toolbox.run(toolbox.deploy / "compose" / "make-secrets", folder)
    return folder


def _secrets_are_drawn_once(toolbox: Toolbox) -> None:
    folder = _make_secrets(toolbox)
    first = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.is_file()}
    _make_secrets(toolbox)
    again = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.is_file()}
    if first != again:
        raise CheckFailed("make-secrets draws anew what is there; a second run must keep every secret")
    wanted = {Path(one["file"]).name for one in _document(toolbox)["secrets"].values()}
    if missing := wanted - set(first):
        raise CheckFailed(f"make-secrets does not make {', '.join(sorted(missing))}")
    identity = json.loads(first["s3-identities.json"])["identities"][0]["credentials"][0]["secretKey"]
    if identity not in first["s3-credentials"] or len(set(first.values())) != len(first):
        raise CheckFailed("make-secrets: the S3 credentials do not agree, or two secrets are the same")


def _redis_asks_for_its_password(toolbox: Toolbox) -> None:
    secrets = _make_secrets(toolbox)
    text = (toolbox.deploy / "compose" / "redis.conf").read_text(encoding="utf-8")
    text = text.replace(f"{_SECRETS_FOLDER}/redis_auth", str(secrets / "redis-auth.conf"))
    text = text.replace("dir /data", f"dir {toolbox.scratch}").replace("bind 0.0.0.0", "bind 127.0.0.1")
    with _redis(toolbox, text) as port:
        told = toolbox.run("redis-cli", "-p", str(port), "get", "x")
        if "NOAUTH" not in told:
            raise CheckFailed(f"redis answers without a password: {told.strip()}")
        password = {"REDISCLI_AUTH": (secrets / "redis-password").read_text(encoding="utf-8").strip()}
        policy = toolbox.run("redis-cli", "-p", str(port), "config", "get", "maxmemory-policy", environment=password)
        if "noeviction" not in policy:
            raise CheckFailed(f"redis throws keys away when memory is full ({policy.split()}); write noeviction")


@contextmanager
def _redis(toolbox: Toolbox, configuration: str) -> Iterator[int]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    path = toolbox.scratch / "redis.conf"
    path.write_text(configuration.replace("port 6379", f"port {port}"), encoding="utf-8")
    with (toolbox.scratch / "redis.log").open("wb") as log:
        server = subprocess.Popen([toolbox.program("redis-server"), path], stdout=log, stderr=log)
    try:
        give_up = time.monotonic() + _READY_SECONDS
        while True:
            try:
                toolbox.run("redis-cli", "-p", str(port), "ping")
                break
            except ProgramFailed:
                if server.poll() is not None or time.monotonic() > give_up:
                    raise CheckFailed(
                        f"redis does not start: {(toolbox.scratch / 'redis.log').read_text()[-400:]}"
                    ) from None
                time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()


def _gateway_starts(toolbox: Toolbox) -> None:
    settings = Gateway.read(toolbox.deploy / "compose" / "gateway.yaml")
    services = _document(toolbox)["services"]
    strangers = [server.host for server in settings.servers if server.host not in services]
    if strangers:
        raise CheckFailed(f"gateway.yaml names {', '.join(strangers)}, which compose.yaml does not start")
    hook = drain_hook(services["gateway"])
    if hook is None:
        raise CheckFailed("compose.yaml: the gateway's pre_stop must be a bash command that drains it")
    gateway.starts(toolbox, settings, toolbox.scratch / "gateway", hook)


def _prometheus_takes_it(toolbox: Toolbox) -> None:
    """Its rules are those of deploy/monitoring, and each target is a service of the stack or itself."""
    folder = toolbox.scratch / "prometheus"
    shutil.copytree(toolbox.deploy / "monitoring" / "rules", folder / "rules")
    path = Path(shutil.copy(toolbox.deploy / "compose" / "prometheus.yml", folder))
    toolbox.run("promtool", "check", "config", path)
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    alone = yaml.safe_load((toolbox.deploy / "monitoring" / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job for job in document["scrape_configs"]}
    if lost := {job["job_name"] for job in alone["scrape_configs"]} - set(jobs):
        raise CheckFailed(f"prometheus.yml lacks the jobs {', '.join(sorted(lost))}, which the rules ask for")
    if jobs.get("gateway", {}).get("metrics_path") != "/stats/prometheus":
        raise CheckFailed(
            "prometheus.yml asks the gateway for another page than /stats/prometheus, the only one it has"
        )
    services = {*_document(toolbox)["services"], "127.0.0.1"}
    targets = [target for job in jobs.values() for one in job["static_configs"] for target in one["targets"]]
    if strangers := [target for target in targets if target.split(":")[0] not in services]:
        raise CheckFailed(f"prometheus.yml names {', '.join(strangers)}, which compose.yaml does not start")


def _grafana_finds_what_is_mounted(toolbox: Toolbox) -> None:
    folder = toolbox.deploy / "compose" / "grafana"
    source = yaml.safe_load((folder / "datasource.yaml").read_text(encoding="utf-8"))["datasources"][0]
    provider = yaml.safe_load((folder / "dashboards.yaml").read_text(encoding="utf-8"))["providers"][0]
    mounts = [volume.split(":") for volume in _document(toolbox)["services"]["grafana"]["volumes"]]
    if ["../monitoring/dashboards", provider["options"]["path"], "ro"] not in mounts:
        raise CheckFailed(f"no dashboards are mounted at {provider['options']['path']}")
    if source["type"] != "prometheus" or source["url"] != "http://prometheus:9090":
        raise CheckFailed("the dashboards ask a Prometheus; datasource.yaml names another source")
