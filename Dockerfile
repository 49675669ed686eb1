# syntax=docker/dockerfile:1
#
#   docker build -t pullback .                                 computes on the CPU
#   docker build -t pullback:cuda --build-arg VARIANT=cuda .   on NVIDIA GPUs too: driver for CUDA 13, container toolkit
#
# The current folder is /data inside, and results belong to the caller:
#
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" pullback demo
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" --gpus all pullback:cuda score -m vae.pt -d x.h5 -o y.h5
#
# The builder does what a clone does: make setup, make build. Both stages are Debian 12, so that their C libraries agree.

FROM rust:1.95.0-slim-bookworm AS builder
ARG VARIANT=cpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/pullback

# Libtorch changes seldom and is large: a layer of its own, which only these files and the variant renew.
COPY Makefile Cargo.toml ./
COPY .ci/preflight .ci/
RUN case "$VARIANT" in \
      cpu) index=https://download.pytorch.org/whl/cpu ;; \
      cuda) index= ;; \
      *) echo "VARIANT=$VARIANT: expected cpu or cuda" >&2; exit 2 ;; \
    esac \
    && make setup TORCH_INDEX_URL="$index"

COPY . .
RUN make build

# What the binary loads, at the paths that its rpath and libtorch's own relative ones name; Python's half stays behind.
RUN mkdir -p /stage/usr/local/bin \
    && cp target/release/pullback /stage/usr/local/bin/ \
    && site="$(dirname "$(readlink -f .deps/libtorch)")" \
    && find "$site" \( -path "$site/torch/lib/*" -o -path "$site/nvidia/*/lib/*" \) \
            -name '*.so*' ! -name 'libtorch_python.so' -print0 \
       | xargs -0 cp --parents --no-dereference --target-directory=/stage


FROM debian:12.12-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home pullback

COPY --from=builder /stage/ /

# The NVIDIA container toolkit reads these; without it they mean nothing.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

USER pullback
WORKDIR /data
# A library that is missing shows here and not at the first user.
RUN ["pullback", "--version"]

ENTRYPOINT ["pullback"]
CMD ["--help"]
