# Three images on one base: the drift sidecar, the load generator, the release tools.
#
#   docker build -f deploy/docker/python.Dockerfile --target sidecar --build-arg BASE_DIGEST=sha256:… .
#
# The base is any Debian 12; one that already holds Python is taken as it is. docs/images.md says how its digest is found.
ARG BASE_IMAGE=docker.io/library/debian:12-slim
ARG BASE_DIGEST
FROM ${BASE_IMAGE}@${BASE_DIGEST} AS base
# hadolint ignore=DL3008 # versions are those of the base's snapshot; Debian keeps no older ones to pin
RUN if ! command -v python3; then \
        apt-get update \
        && apt-get install -y --no-install-recommends python3 ca-certificates libgomp1 \
        && rm -rf /var/lib/apt/lists/*; \
    fi

FROM base AS builder
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/*
COPY deploy/docker/requirements /build/requirements
COPY deploy/docker/install-packages /build/
COPY pyproject.toml README.md /opt/fraudserve/
COPY python_backend /opt/fraudserve/python_backend
COPY clients /opt/fraudserve/clients
COPY loadtest /opt/fraudserve/loadtest
COPY deploy /opt/fraudserve/deploy

FROM builder AS sidecar-packages
RUN /build/install-packages sidecar

FROM builder AS load-packages
RUN /build/install-packages load

FROM builder AS tools-packages
RUN /build/install-packages tools

FROM base AS runtime
# /data is the one place that is written to, with /tmp: the root is mounted read-only.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/data \
    NUMBA_CACHE_DIR=/tmp/numba
# new volumes take the owner of the folder that they are mounted on
RUN install -d -o 1000 -g 1000 -m 0750 /data /data/model_repository /data/var /etc/fraudserve /etc/fraudserve/gateway
WORKDIR /data

FROM runtime AS sidecar
LABEL org.opencontainers.image.title="fraudserve drift sidecar"
COPY --from=sidecar-packages /opt/fraudserve /opt/fraudserve
COPY --from=sidecar-packages /opt/venv /opt/venv
USER 1000:1000
EXPOSE 8003
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8003/healthz', timeout=2)"]
ENTRYPOINT ["python", "-m", "drift_sidecar"]
CMD ["--log", "/log", "--repository", "/models", "--home", "/data", "--host", "0.0.0.0"]

FROM runtime AS load
LABEL org.opencontainers.image.title="fraudserve load generator"
COPY --from=load-packages /opt/fraudserve /opt/fraudserve
COPY --from=load-packages /opt/venv /opt/venv
USER 1000:1000
# A job: its exit code is its verdict, and there is nothing to ask while it runs.
HEALTHCHECK NONE
ENTRYPOINT ["fraudctl"]
CMD ["load", "list"]

FROM runtime AS tools
LABEL org.opencontainers.image.title="fraudserve release tools"
# the front door and the templates of releases; releases themselves are on a volume
COPY model_repository /opt/fraudserve/model_repository
COPY --from=tools-packages /opt/fraudserve /opt/fraudserve
COPY --from=tools-packages /opt/venv /opt/venv
USER 1000:1000
HEALTHCHECK NONE
ENTRYPOINT ["fraudctl"]
CMD ["--help"]
