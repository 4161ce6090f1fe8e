# pgcorral as a container image: the program, the libraries it is linked to, and nothing else. How to run it:
# docs/container.md.
#
#     docker build -t pgcorral .                                    # the proxy
#     docker build -t pgcorral-loadtest --target loadtest .         # the load generator
#
# Linked to glibc, as it is when it is tested and measured, on an otherwise empty image: there is no shell in it, no package
# manager, and nothing to keep up to date but what is used.

FROM docker.io/library/rust:1.95.0-slim-bookworm AS dependencies
WORKDIR /build
# Names of functions stay, for the backtrace of a panic. Lines of code would more than double the size.
ENV CARGO_PROFILE_RELEASE_DEBUG=none \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo
# Manifests and empty programs first: the dependencies are built again only when the manifests change.
COPY Cargo.toml Cargo.lock ./
COPY loadtest/Cargo.toml loadtest/
RUN set -eu; \
    mkdir -p src loadtest/src/bin/loadtest loadtest/tests tests/it tests/drivers/rust; \
    touch loadtest/tests/workers.rs tests/it/main.rs tests/drivers/rust/driver_tokio_postgres.rs; \
    echo '//! Empty.' | tee src/lib.rs >loadtest/src/lib.rs; \
    printf '//! Empty.\nfn main() {}\n' | tee src/main.rs >loadtest/src/bin/loadtest/main.rs; \
    cargo build --release --locked --package pgcorral --package loadtest --bin pgcorral --bin loadtest; \
    # The sources may be older than these, and cargo goes by their times.
    cargo clean --release --locked --package pgcorral --package loadtest

FROM dependencies AS build
COPY loadtest loadtest
COPY src src
RUN cargo build --release --locked --package pgcorral --package loadtest --bin pgcorral --bin loadtest
# The root of both images. nsswitch.conf has glibc look into /etc/hosts before it asks DNS. The authorities are for
# `sslrootcert`.
COPY LICENSE-APACHE LICENSE-MIT /image/usr/share/doc/pgcorral/
COPY config/container.toml /image/etc/pgcorral/pgcorral.toml
RUN set -eu; \
    cd /image; \
    cp --dereference --parents \
        $(ldd /build/target/release/pgcorral /build/target/release/loadtest | grep -o '/lib[^ ]*' | sort -u) \
        /etc/ssl/certs/ca-certificates.crt \
        /usr/share/doc/ca-certificates/copyright /usr/share/doc/libc6/copyright /usr/share/doc/libgcc-s1/copyright \
        .; \
    echo 'hosts: files dns' >etc/nsswitch.conf; \
    echo 'pgcorral:x:65532:65532:pgcorral:/:/usr/sbin/nologin' >etc/passwd; \
    echo 'pgcorral:x:65532:' >etc/group

FROM scratch AS loadtest
COPY --from=build /image /
COPY --from=build /build/target/release/loadtest /usr/bin/loadtest
USER 65532:65532
ENTRYPOINT ["/usr/bin/loadtest"]
CMD ["--help"]

# The last one is what is built unless another is asked for.
FROM scratch AS pgcorral
LABEL org.opencontainers.image.title="pgcorral" \
    org.opencontainers.image.description="A connection-stampede guard for PostgreSQL" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /image /
COPY --from=build /build/target/release/pgcorral /usr/bin/pgcorral
# `serve` and `healthcheck` both look there.
ENV PGCORRAL_CONFIG=/etc/pgcorral/pgcorral.toml
# By number, or Kubernetes could not tell that it is not root.
USER 65532:65532
EXPOSE 6432 9432
# The proxy drains.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/bin/pgcorral", "healthcheck"]
ENTRYPOINT ["/usr/bin/pgcorral"]
CMD ["serve"]
