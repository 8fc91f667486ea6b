"""All gates, in the order in which they make sense: nothing of a release is opened before its signature is verified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fraud_release.errors import ArtifactRefused
from fraud_release.gates.evidence import Opened, gather
from fraud_release.gates.quality import quality_gates
from fraud_release.gates.result import GateResult, not_run
from fraud_release.gates.sameness import golden_gate, parity_gates
from fraud_release.gates.segments import segment_gates
from fraud_release.gates.service import server_gates
from fraud_release.gates.settings import GateSettings
from fraud_release.signing import verified_contents
from fraud_scoring.errors import FraudError, InvalidInput


def judge(
    repository: Path,
    candidate: int,
    champion: int | None,
    settings: GateSettings,
    progress: Callable[[float, str], None] = lambda share, text: None,
) -> list[GateResult]:
    """Every gate's answer for release `candidate` against release `champion` (None: there is none yet).

    A gate that could not be asked, for want of data or of a server, does not pass. ArtifactRefused where the champion
    is not what was signed: then there is nothing to compare with.
    """
    progress(0.0, "signature")
    try:
        verified, contents = verified_contents(repository, candidate, settings.trust)
    except ArtifactRefused as refused:
        return [GateResult("signature", False, None, None, str(refused))]
    results = [GateResult("signature", True, verified.files, None, "files, each as a pinned key signed it")]
    opened = Opened.of(verified, contents)
    progress(0.1, "golden vectors")
    results.append(golden_gate(opened))
    if settings.data is None:
        return [*results, not_run("quality", "there are no labelled transactions; name them with --data")]
    other = None if champion is None else Opened.of(*verified_contents(repository, champion, settings.trust))
    progress(0.15, "scoring the test part")
    try:
        evidence = gather(settings.data, opened, other)
    except InvalidInput as error:
        return [*results, not_run("quality", str(error))]
    progress(0.4, "parity")
    results += parity_gates(opened, evidence.features)
    progress(0.5, "quality, calibration")
    results += quality_gates(evidence, opened.costs, settings)
    progress(0.65, "segments")
    results += segment_gates(evidence, settings)
    if settings.measure is None:
        return [*results, not_run("server", "no server was asked for")]
    progress(0.75, "latency and memory on a server of its own")
    try:
        figures = settings.measure(repository, candidate, evidence.rows.slice(0, settings.server_rows))
    except FraudError as error:
        return [*results, not_run("server", str(error))]
    return [*results, *server_gates(figures, settings.tolerances)]
