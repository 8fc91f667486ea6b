"""Is what is served what was trained and tested: the exported model, the golden vectors."""

from __future__ import annotations

import io

import numpy as np

from fraud_release.files import TRAINED_FILES
from fraud_release.gates.evidence import Opened
from fraud_release.gates.result import GateResult, not_run
from fraud_release.trained import TrainedModel
from fraud_scoring.features import Float32
from fraud_scoring.releases import GOLDEN_FILE, ensemble_name

PARITY_ROWS = 20_000
ALONE_ROWS = 200


def parity_gates(release: Opened, features: Float32) -> list[GateResult]:
    """Margins of the exported model that differ from the trained one's, and alone from in a batch: by no bit."""
    rows = np.ascontiguousarray(features[:PARITY_ROWS])
    exported = release.pipeline.margin(rows)[:, 0]
    alone = np.concatenate([release.pipeline.margin(rows[i : i + 1])[:, 0] for i in range(min(ALONE_ROWS, len(rows)))])
    differ = _differ(alone, exported[: len(alone)])
    batch = GateResult(
        "batch = single",
        differ == 0,
        differ,
        0,
        f"of {len(alone):,} rows alone that get another margin than in a batch",
    )
    model = TrainedModel.of_files(_trained_files(release))
    if model is None:
        return [not_run("parity", "the release carries no trained model; train it again"), batch]
    trained = model.margin(rows)
    differ = _differ(trained, exported)
    told = f"of {len(rows):,} margins of the exported model that differ from the trained one's"
    return [GateResult("parity", differ == 0, differ, 0, told), batch]


def golden_gate(release: Opened) -> GateResult:
    """Golden transactions whose answer is not, to the bit, what it was when the release was made."""
    with np.load(io.BytesIO(release.contents[f"{ensemble_name(release.number)}/{GOLDEN_FILE}"])) as golden:
        answers = release.pipeline.answer_alone(golden["transaction"])
        differ = np.zeros(len(golden["transaction"]), bool)
        for name in ("features", "score", "verdict"):
            found, wanted = (np.ascontiguousarray(one) for one in (getattr(answers, name), golden[name]))
            if found.shape != wanted.shape or found.dtype != wanted.dtype:
                differ[:] = True
            else:
                width = found.itemsize * found.shape[1]
                pairs = (one.view(np.uint8).reshape(len(one), width) for one in (found, wanted))
                differ |= np.not_equal(*pairs).any(axis=1)
    count = int(differ.sum())
    return GateResult("golden vectors", count == 0, count, 0, f"of {len(differ)} that are answered otherwise than then")


def _trained_files(release: Opened) -> dict[str, bytes]:
    folder = ensemble_name(release.number)
    return {name: release.contents[path] for name in TRAINED_FILES if (path := f"{folder}/{name}") in release.contents}


def _differ(one: Float32, other: Float32) -> int:
    return int((one.view(np.uint32) != other.view(np.uint32)).sum())
