"""The one place that knows MLflow: releases as versions of a registered model, stages as its aliases.

MLflow is imported when a catalogue is opened, never before: it takes seconds, and nothing that serves needs it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from fraud_release.errors import RegistryUnavailable
from fraud_release.registry.audit_stores import AuditStore, MlflowAudit, SqliteAudit
from fraud_scoring.errors import InvalidInput
from fraud_scoring.releases import release_name

if TYPE_CHECKING:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    from fraud_release.registry.facts import Facts

NAME: Final = "fraudserve"
"""The registered model; an audit, stages and versions of its own."""
EMBEDDED_FOLDER: Final = ".registry"
"""In the model repository, where nobody names a server."""
AUDIT_FILE: Final = "audit.sqlite"
_ARTIFACTS: Final = "release"
_ALREADY: Final = "RESOURCE_ALREADY_EXISTS"
_QUIET: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Of MLflow's own settings, where nobody else has set them: it calls nobody but its server, gives up soon, and
prints nothing."""


@dataclass(frozen=True)
class Place:
    """A version: its number in MLflow, and the run that holds its files and figures."""

    version: str
    run: str


class Catalogue:
    """Versions, aliases and files in MLflow. What MLflow cannot do becomes RegistryUnavailable."""

    def __init__(self, client: MlflowClient, audit: AuditStore, experiment: str, artifacts: Path | None) -> None:
        self._client = client
        self._experiment = experiment
        self._artifacts = artifacts
        self.audit = audit

    @classmethod
    def embedded(cls, folder: Path) -> Catalogue:
        """A SQLite file and a folder of artifacts in `folder`; made there where they are missing."""
        artifacts = folder.absolute() / "artifacts"
        artifacts.mkdir(parents=True, exist_ok=True)
        with _alone(folder / ".lock"):  # MLflow's first opening makes tables, which two at once cannot
            client = _client(f"sqlite:///{folder.absolute() / 'mlflow.sqlite'}")
            experiment = _experiment(client, artifacts)
            _model(client)
        return cls(client, SqliteAudit(folder / AUDIT_FILE), experiment, artifacts)

    @classmethod
    def shared(cls, url: str) -> Catalogue:
        """An MLflow server at `url`; its artifacts lie where it says, on S3 too."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput("a registry is the URL of an MLflow server; write http://host:5000 or https://host")
        where = f"the registry at {parts.hostname}"
        with _translated(where):
            client = _client(url)
            experiment = _experiment(client, None)
            _model(client)
        return cls(client, _Translated(MlflowAudit(client, NAME), where), experiment, None)

    def add(self, release: int, folder: Path, facts: Facts) -> Place:
        """A version with the files of `folder`; it counts only once the audit names it."""
        name = release_name(release)
        with _translated():
            run = self._client.create_run(self._experiment, run_name=name, tags={"release": name, **facts.tags})
            run_id: str = run.info.run_id
            for key, text in facts.parameters.items():
                self._client.log_param(run_id, key, text)
            for key, value in facts.metrics.items():
                self._client.log_metric(run_id, key, value)
            self._client.log_artifacts(run_id, os.fspath(folder), _ARTIFACTS)
            self._client.set_terminated(run_id)
            source = f"{run.info.artifact_uri}/{_ARTIFACTS}"
            tags = {"release": name, **facts.tags, **facts.documents}
            made = self._client.create_model_version(NAME, source, run_id, tags=tags, description=facts.description)
            return Place(str(made.version), run_id)

    def aliases(self) -> dict[str, str]:
        """Aliases to MLflow's version numbers."""
        with _translated():
            model = self._client.get_registered_model(NAME)
            return {str(alias): str(version) for alias, version in model.aliases.items()}

    def set_alias(self, alias: str, version: str | None) -> None:
        with _translated():
            if version is None:
                self._client.delete_registered_model_alias(NAME, alias)
            else:
                self._client.set_registered_model_alias(NAME, alias, version)

    def tags(self, place: Place) -> dict[str, str]:
        """What was written about a version when it was registered."""
        with _translated():
            return dict(self._client.get_model_version(NAME, place.version).tags)

    def metrics(self, place: Place) -> dict[str, float]:
        with _translated():
            return dict(self._client.get_run(place.run).data.metrics)

    def parameters(self, place: Place) -> dict[str, str]:
        with _translated():
            return dict(self._client.get_run(place.run).data.params)

    def download(self, place: Place, folder: Path) -> Path:
        """The files of a version, below `folder`; what they are worth is for the caller to check."""
        if self._artifacts is not None:  # the folder may have been moved since; MLflow keeps whole paths
            return Path(
                shutil.copytree(
                    self._artifacts / place.run / "artifacts" / _ARTIFACTS, folder / _ARTIFACTS, symlinks=True
                )
            )
        with _translated():
            return Path(self._client.download_artifacts(place.run, _ARTIFACTS, os.fspath(folder)))


class _Translated:
    """An audit on a server whose errors are ours."""

    def __init__(self, inner: AuditStore, where: str) -> None:
        self._inner = inner
        self._where = where

    def lines(self) -> list[str]:
        with _translated(self._where):
            return self._inner.lines()

    def append(self, sequence: int, line: str) -> None:
        with _translated(self._where):
            self._inner.append(sequence, line)


def _client(uri: str) -> MlflowClient:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import logging

    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _experiment(client: MlflowClient, artifacts: Path | None) -> str:
    """The experiment whose runs hold releases; of an embedded registry that was moved, one for the new place."""
    from mlflow.exceptions import MlflowException

    location = None if artifacts is None else artifacts.as_uri()
    for name in (NAME, f"{NAME} in {artifacts}"):
        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(client.create_experiment(name, artifact_location=location))
            except MlflowException as error:
                _must_be_there(error)
                found = client.get_experiment_by_name(name)  # somebody else made it meanwhile
                assert found is not None
        if location is None or found.artifact_location == location:
            return str(found.experiment_id)
    raise RegistryUnavailable("the embedded registry's artifacts lie elsewhere; put its folder back")


def _model(client: MlflowClient) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(NAME)
    except MlflowException as error:
        _must_be_there(error)


def _must_be_there(error: MlflowException) -> None:
    """Raise `error` unless it says that what was to be made is there already."""
    if error.error_code != _ALREADY:
        raise error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _translated(where: str = "the registry") -> Iterator[None]:
    """MLflow's and the network's errors as one of ours."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise RegistryUnavailable(f"{where} cannot be used: {lines[0][:300]}") from None


def documents_of(tags: Mapping[str, str]) -> dict[str, Any]:
    """The JSON documents among a version's tags."""
    import json

    return {name.removesuffix(".json"): json.loads(text) for name, text in tags.items() if name.endswith(".json")}
