"""Rules for deploy/terraform that neither Terraform nor checkov has: read from the text, module by module."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_BLOCK: Final = re.compile(
    r'^(variable|output|resource|data|module) "([^"]+)"(?: "([^"]+)")? \{(?:\}|\n(.*?)^\})', re.M | re.S
)
_COMMENT: Final = re.compile(r"^\s*#.*$", re.M)
_SKIP: Final = re.compile(r"#\s*checkov:skip=\w+:?(.*)$", re.M)
_PROVIDER: Final = re.compile(r'source\s*=\s*"hashicorp/\w+"\s+version\s*=\s*"([^"]+)"')
_SECRET: Final = re.compile(r'(?:password|secret_string|auth_token|access_key|secret_key)\s*=\s*"', re.I)
_LEAST_REASON: Final = 20


def findings(folder: Path) -> list[str]:
    """What breaks a rule, each as file: what, the rule; empty where nothing does."""
    return sorted(found for module in _modules(folder) for found in _of_module(module, folder))


def _modules(folder: Path) -> list[Path]:
    return sorted({path.parent for path in folder.rglob("*.tf") if ".terraform" not in path.parts})


def _of_module(module: Path, root: Path) -> Iterator[str]:
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(module.glob("*.tf"))}
    every = _COMMENT.sub("", "\n".join(texts.values()))
    for path, text in texts.items():
        where = path.relative_to(root)
        for kind, name, second, body in _BLOCK.findall(text):
            yield from (f"{where}: {said}" for said in _of_block(kind, name, second, body, every, module == root))
        for reason in _SKIP.findall(text):
            if len(reason.strip()) < _LEAST_REASON:
                yield f"{where}: a checkov rule is skipped without a reason; write why after a second colon"
        if _SECRET.search(text):
            yield f"{where}: a secret is written out; let AWS draw it and keep it"
    if module == root and not re.fullmatch(r"\d+\.\d+\.\d+", "".join(_PROVIDER.findall(every))):
        yield "versions.tf: a provider's version is a range; pin the one that was validated, as 5.100.0"


def _of_block(kind: str, name: str, second: str, body: str, module: str, at_root: bool) -> Iterator[str]:
    if kind in ("variable", "output") and "description" not in body:
        yield f"{kind} {name} says nothing of what it is; give it a description"
    if kind == "variable":
        if not re.search(r"^\s*type\s*=", body, re.M):
            yield f"variable {name} takes anything; give it a type"
        if not re.search(rf"\bvar\.{name}\b", module.replace(body, "")):
            yield f"variable {name} is used by nobody; take it away"
        if at_root and "validation {" not in body:
            yield f"variable {name} is not checked; give it a validation with a message"
    if kind == "data" and not re.search(rf"\bdata\.{name}\.{second}\b", module):
        yield f"data {name}.{second} is used by nobody; take it away"
