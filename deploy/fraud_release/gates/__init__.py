"""What a release must pass to leave a stage. Doubt is no pass."""

from fraud_release.gates.judging import judge
from fraud_release.gates.result import GateResult
from fraud_release.gates.settings import GateSettings, Measure, ServerFigures, Tolerances

__all__ = ["GateResult", "GateSettings", "Measure", "ServerFigures", "Tolerances", "judge"]
