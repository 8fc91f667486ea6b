# The server: NVIDIA's Triton, our packages and backends beside it. Releases and keys come on volumes, never in the image.
#
#   docker build -f deploy/docker/server.Dockerfile --build-arg TRITON_DIGEST=sha256:… .
#
# 26.07 is the oldest release that may serve; docs/images.md says how its digest is found. For a host without NVIDIA's
# registry, the same file builds on Debian with the Triton of the wheel:
#
#   --build-arg TRITON_IMAGE=docker.io/library/debian:12-slim --build-arg TRITON_HOME= --build-arg REQUIREMENTS=server-cpu
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.07-py3
ARG TRITON_DIGEST
FROM ${TRITON_IMAGE}@${TRITON_DIGEST} AS base
# hadolint ignore=DL3008 # versions are those of the base's snapshot; its distribution keeps no older ones to pin
RUN if ! command -v python3; then \
        apt-get update \
        && apt-get install -y --no-install-recommends python3 libpython3.11 ca-certificates libgomp1 libjemalloc2 \
        && rm -rf /var/lib/apt/lists/*; \
    fi

FROM base AS packages
# hadolint ignore=DL3008
RUN if ! python3 -m pip --version; then \
        apt-get update \
        && apt-get install -y --no-install-recommends python3-pip \
        && rm -rf /var/lib/apt/lists/*; \
    fi
COPY deploy/docker/requirements /build/requirements
COPY deploy/docker/install-packages /build/
COPY pyproject.toml README.md /opt/fraudserve/
COPY python_backend /opt/fraudserve/python_backend
COPY clients /opt/fraudserve/clients
COPY loadtest /opt/fraudserve/loadtest
COPY deploy /opt/fraudserve/deploy
ARG REQUIREMENTS=server
RUN /build/install-packages "${REQUIREMENTS}"
# the backend in C, for the C library of this base; no compiler goes into the image
# hadolint ignore=DL3008
RUN if ! command -v cc; then \
        apt-get update \
        && apt-get install -y --no-install-recommends gcc libc6-dev \
        && rm -rf /var/lib/apt/lists/*; \
    fi \
    && /opt/fraudserve/python_backend/coalesce/build /opt/fraudserve/python_backend/coalesce/libtriton_coalesce.so

FROM base AS server
LABEL org.opencontainers.image.title="fraudserve server"
# the front door and the label model; releases are on a volume, /models, which begins as a copy of this
COPY model_repository /opt/fraudserve/model_repository
COPY --from=packages /opt/fraudserve /opt/fraudserve
COPY --from=packages /opt/venv /opt/venv
# /data (store, log, keys) and /tmp are written to, and /dev/shm: the root is mounted read-only.
# New volumes take the owner of the folder that they are mounted on.
RUN install -d -o 1000 -g 1000 -m 0750 /data /models
ARG TRITON_HOME=/opt/tritonserver
ENV FRAUD_TRITON=${TRITON_HOME} \
    PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/data \
    NUMBA_CACHE_DIR=/tmp/numba
WORKDIR /data
USER 1000:1000
# 8001 gRPC for the gateway, 8002 metrics for Prometheus; HTTP stays on the container's loopback.
EXPOSE 8001 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["fraudctl", "health", "--repository", "/models", "--url", "127.0.0.1:8001", "--timeout", "2"]
ENTRYPOINT ["fraudctl"]
CMD ["serve", "--repository", "/models", "--home", "/data", "--no-sidecar", "--listen", "0.0.0.0"]
