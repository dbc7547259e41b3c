# The image of one gateway.
#
#   docker build --tag freellmapi .
#   docker run --publish 127.0.0.1:3001:3001 --volume freellmapi-data:/data freellmapi
#
# The store, its master key and the spool of statistics live in /data. A configuration of your own is mounted anywhere
# and named with FREELLMAPI_CONFIG. See docker-compose.yml for a gateway on PostgreSQL.

# The oldest Rust that the crate promises to build with (rust-version in Cargo.toml; scripts/check-containers
# compares them), on the Debian release that the last stage runs, so that both have the same OpenSSL.
ARG RUST_VERSION=1.89

FROM rust:${RUST_VERSION}-slim-bookworm AS build
# Debian's stable releases replace a version by its security fix: a pinned one would soon be gone.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libssl-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The caches outlive this build; the program must leave them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --features postgres-tls --bin freellmapi \
    && install -D target/dist/freellmapi /out/freellmapi

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="FreeLLMAPI" \
      org.opencontainers.image.description="One endpoint and one key in front of the free tiers of many LLM providers" \
      org.opencontainers.image.licenses="MIT"
# libssl3: TLS to Postgres. ca-certificates: whom that TLS trusts. curl: the health check below.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 freellmapi \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /data \
       --shell /usr/sbin/nologin freellmapi \
    && install --directory --owner=freellmapi --group=freellmapi --mode=0700 /data
COPY --from=build /out/freellmapi /usr/local/bin/freellmapi
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
# The default store is data/freellmapi.db, the spool data/spool, taken from here.
WORKDIR /
ENV FREELLMAPI_LISTEN=0.0.0.0:3001
VOLUME /data
EXPOSE 3001
# Ready, not only alive: while it drains, nobody should send it anything new.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://127.0.0.1:3001/readyz"]
ENTRYPOINT ["freellmapi"]
CMD ["serve"]
