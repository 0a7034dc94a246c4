# The page, then the program with the page in it, then the program alone.
FROM node:22-bookworm-slim AS page
WORKDIR /build/web
COPY web/package.json web/package-lock.json web/.npmrc ./
RUN npm ci
COPY web ./
RUN npm run build

FROM rust:1.95-bookworm AS program
# aws-lc builds C code with cmake.
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# Dependencies first: they change more seldom than our code, and their layer is kept.
COPY Cargo.toml Cargo.lock ./
COPY .cargo ./.cargo
# The manifest names the benches, so they have to be there.
COPY benches ./benches
RUN mkdir -p src web/dist && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo build --release --locked && rm -rf src
COPY migrations ./migrations
COPY src ./src
COPY --from=page /build/web/dist ./web/dist
RUN touch src/main.rs src/lib.rs && cargo build --release --locked \
    && mkdir -p /image/data && cp target/release/call-service /image/call-service

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin call-service
COPY --from=program --chown=call-service:call-service /image/data /data
COPY --from=program /image/call-service /usr/local/bin/call-service
USER call-service
ENV NODE_ENV=production DATA_DIR=/data PORT=3003 METRICS_PORT=9091
VOLUME /data
EXPOSE 3003 9091
# Asked by bash alone, so that no other program is in the image; where TLS is on, that it accepts connections has to do.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["bash", "-c", "\
    exec 3<>/dev/tcp/127.0.0.1/$PORT || exit 1; \
    [ -n \"$TLS_CERT\" ] && exit 0; \
    printf 'GET /health HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n' >&3; \
    read -r line <&3; [[ $line == *' 200 '* ]]"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/call-service"]
