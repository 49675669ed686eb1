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
# It needs no network, no home, no entry in /etc/passwd, and writes nowhere else: --network none --read-only do (docs/security.md).
#
# BUILDER, BASE    the images to begin with: Debian 12, one with cargo
# TORCH_FROM=pypi  for the CPU variant where the index of CPU builds is out of reach
# SOURCE, REVISION where the sources are, and their commit, for the image's labels: --build-arg REVISION="$(git rev-parse HEAD)"

ARG BUILDER=rust:1.95.0-slim-bookworm
ARG BASE=debian:12.12-slim

# Both stages are Debian 12, so that their C libraries agree.
FROM ${BUILDER} AS builder
ARG VARIANT=cpu
ARG TORCH_FROM=index
ARG TORCH_VERSION=2.11.0
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/pullback

# Libtorch changes seldom and is large: a layer of its own, which only these files and the variant renew.
COPY Makefile Cargo.toml ./
COPY .ci/preflight .ci/libtorch-cpu .ci/
RUN case "$VARIANT,$TORCH_FROM" in \
      cpu,index) .ci/libtorch-cpu /usr/local/lib/pullback "$TORCH_VERSION" https://download.pytorch.org/whl/cpu ;; \
      cpu,pypi) .ci/libtorch-cpu /usr/local/lib/pullback "$TORCH_VERSION" ;; \
      cuda,*) make setup ;; \
      *) echo "VARIANT=$VARIANT, TORCH_FROM=$TORCH_FROM: expected cpu or cuda, index or pypi" >&2; exit 2 ;; \
    esac

COPY . .
RUN if test "$VARIANT" = cpu; then export LIBTORCH=/usr/local/lib/pullback; fi \
    && make build TRIM=1 ${LIBTORCH:+LIBTORCH="$LIBTORCH"}

# What the binary loads, at the paths that its rpath and libtorch's own relative ones name; Python's half stays behind. CUDA's libraries
# load others by name, so all of them come along.
RUN mkdir -p /stage/usr/local/bin \
    && cp target/release/pullback /stage/usr/local/bin/ \
    && if test "$VARIANT" = cpu; then \
         cp --parents --target-directory=/stage /usr/local/lib/pullback/lib/*.so*; \
       else \
         site="$(dirname "$(readlink -f .deps/libtorch)")" \
         && find "$site" \( -path "$site/torch/lib/*" -o -path "$site/nvidia/*/lib/*" \) \
                 -name '*.so*' ! -name 'libtorch_python.so' -print0 \
            | xargs -0 cp --parents --no-dereference --target-directory=/stage; \
       fi

# The notices that licences want beside a binary: ours, those of libtorch and CUDA, those of every crate and of HDF5.
RUN mkdir -p /stage/usr/share/doc/pullback \
    && cd /stage/usr/share/doc/pullback \
    && cp /opt/pullback/LICENSE . \
    && notices() { (cd "$1" && find . -iregex "$2" -type f -print0 | xargs -0 --no-run-if-empty cp --parents --target-directory="$OLDPWD"); } \
    && notices "${CARGO_HOME:-$HOME/.cargo}/registry/src" '.*/\(licen[cs]e\|copying\|notice\)[^/]*' \
    && if test "$VARIANT" = cpu; then notices /usr/local/lib/pullback '.*/licenses/.*'; \
       else notices "$(dirname "$(readlink -f /opt/pullback/.deps/libtorch)")" '\./[^/]*\.dist-info/licenses/.*'; fi


FROM ${BASE}
ARG VARIANT=cpu
LABEL org.opencontainers.image.title="pullback" \
      org.opencontainers.image.description="Adversarial robustness of variational autoencoders by their local geometry" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="0.2.0" \
      pullback.variant="${VARIANT}"
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
# For those who keep a container up: the program starts, and finds its libraries.
HEALTHCHECK --interval=60s --timeout=20s --retries=2 CMD ["pullback", "--version"]

# Last, so that another commit renews no layer.
ARG SOURCE=""
ARG REVISION=""
LABEL org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.revision="${REVISION}"

ENTRYPOINT ["pullback"]
CMD ["--help"]
