# One recipe for every service: docker build --build-arg SERVICE=coach --tag dugout-coach .

FROM ghcr.io/astral-sh/uv:0.13.9 AS uv
FROM python:3.13.14-slim-bookworm AS python

FROM python AS build
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PROJECT_ENVIRONMENT=/opt/dugout UV_PYTHON_DOWNLOADS=never
WORKDIR /src
ARG SERVICE
# What others wrote, in a layer of its own: it is rebuilt when the lock file changes, not with every edit of ours.
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    uv sync --frozen --no-dev --no-install-workspace --package "dugout-${SERVICE}"
COPY . .
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --locked --no-dev --no-editable --package "dugout-${SERVICE}"

FROM python
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin dugout
COPY --from=build /opt/dugout /opt/dugout
ARG SERVICE
# The gateway is a server of its own; uvicorn runs the others. Both read the variables below.
RUN case "${SERVICE}" in gateway) set -- python -m gateway ;; *) set -- uvicorn ;; esac; \
    printf '#!/bin/sh\nexec %s\n' "$*" > /usr/local/bin/serve && chmod 755 /usr/local/bin/serve
ENV PATH=/opt/dugout/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    UVICORN_APP=${SERVICE}.app:build \
    UVICORN_FACTORY=true \
    UVICORN_HOST=0.0.0.0 \
    UVICORN_PORT=8000 \
    UVICORN_ACCESS_LOG=false \
    UVICORN_PROXY_HEADERS=false \
    UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN=25
# By number, so that Kubernetes can see that it is not root.
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=120s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["serve"]
