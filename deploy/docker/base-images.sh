#!/bin/sh
# Makes the base images of the Dockerfile from Debian's packages, under the same tags, where no image can be pulled:
#
#   base-images.sh [run] [build]      without arguments: run
#
# run    debian:bookworm-slim, with the Vulkan loader in it
# build  rust:1.95-bookworm: the same with a C compiler, this machine's Rust toolchain, and the certificates that this
#        machine trusts, so that Cargo gets at its registry as here
#
# Needs root, debootstrap and a Docker engine.
set -eu
suite=bookworm
run_tag=debian:bookworm-slim
build_tag=rust:1.95-bookworm

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# import TAG INCLUDED_PACKAGES [TOOLCHAIN_DIRECTORY]
import() {
    root=$work/root
    debootstrap --variant=minbase --include="$2" "$suite" "$root" >"$work/log" ||
        { tail -n 20 "$work/log" >&2; exit 1; }
    # What the official slim image leaves out too.
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/man/* \
        "$root"/usr/share/locale/* "$root"/usr/share/doc/*/*.gz "$root"/var/log/*.log
    if [ $# -eq 3 ]; then
        # Not its documentation, which is the larger half.
        mkdir -p "$root/usr/local/rust"
        tar -C "$3" --exclude=./share -c . | tar -C "$root/usr/local/rust" -x --no-same-owner
        for tool in cargo rustc; do ln -s "../rust/bin/$tool" "$root/usr/local/bin/$tool"; done
        cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    fi
    tar -C "$root" -c . | docker import \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change 'CMD ["/bin/bash"]' - "$1" >/dev/null
    rm -rf "$root"
    echo "made $1"
}

[ $# -gt 0 ] || set -- run
for kind; do
    case $kind in
    run) import "$run_tag" libvulkan1 ;;
    build) import "$build_tag" ca-certificates,gcc,libc6-dev "$(rustc --print sysroot)" ;;
    *) echo "unknown image $kind; there are: run, build" >&2; exit 64 ;;
    esac
done
