# One static binary and nothing else. Build it first:
#
#   RUSTFLAGS="-C target-feature=+crt-static" \
#       cargo build --release -p docent-server --target x86_64-unknown-linux-gnu
#   docker build -t docent .
#
# The explicit target keeps the linker flag away from build scripts and procedural macros.
#
#   docker run -p 2181:2181 -v docent-data:/data docent
#   docker run -p 2181:2181 -v docent-data:/data -v $PWD/zoo.cfg:/conf/zoo.cfg:ro docent serve --config /conf/zoo.cfg
FROM scratch
COPY target/x86_64-unknown-linux-gnu/release/docent /docent
COPY docker/zoo.cfg /conf/zoo.cfg
VOLUME /data
# Clients, followers, elections.
EXPOSE 2181 2888 3888
ENTRYPOINT ["/docent"]
CMD ["serve", "--config", "/conf/zoo.cfg"]
