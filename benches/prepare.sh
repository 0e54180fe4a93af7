# What the scripts of benches/ need before they can begin; read by them from the root.

# packages NAME...: commands from Debian's packages of the same names.
packages() {
    missing=
    for name in "$@"; do
        command -v "$name" >/dev/null || missing="$missing $name"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "missing, and only root may install it: apt-get install$missing" >&2
        exit 1
    fi
    apt-get update -qq >&2
    # In run level 1 the packages do not start their services.
    # shellcheck disable=SC2086
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends $missing >&2
}

# LiteLLM in .cache/; where it can't be installed, its rows are left out.
litellm() {
    venv=$root/.cache/bench-venv
    if ! cmp -s benches/requirements.txt "$venv/stamp"; then
        rm -rf "$venv"
        { python3 -m venv "$venv" &&
            "$venv/bin/pip" install --quiet --disable-pip-version-check -r benches/requirements.txt &&
            cp benches/requirements.txt "$venv/stamp"; } >&2 || venv=
    fi
}

# The release binaries, as they are at this moment.
build() {
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}"
    if [ -z "${HOLDFAST_BIN:-}" ]; then
        cargo build --locked --release -p holdfast
        HOLDFAST_BIN=$CARGO_TARGET_DIR/release/holdfast
    fi
    cargo build --locked --release --manifest-path benches/Cargo.toml
}

# Thousands of streams are twice as many sockets.
files() {
    if [ "$(ulimit -n)" != unlimited ] && [ "$(ulimit -n)" -lt 16384 ]; then
        ulimit -n 16384 || {
            echo "16384 open files are needed: ulimit -n says $(ulimit -n)" >&2
            exit 1
        }
    fi
}

# A directory with copies, so that a build in the meantime does not change what is measured.
workplace() {
    directory=$(mktemp -d)
    trap 'rm -rf "$directory"' EXIT
    trap 'exit 130' INT TERM
    mkdir "$directory/state"
    if [ "${1:-}" = stripped ]; then
        # As it is shipped: without tables for debuggers, which no run reads.
        strip -o "$directory/holdfast" "$HOLDFAST_BIN"
        strip -o "$directory/holdfast-bench" "$CARGO_TARGET_DIR/release/holdfast-bench"
        return 0
    fi
    cp "$HOLDFAST_BIN" "$directory/holdfast"
    cp "$CARGO_TARGET_DIR/release/holdfast-bench" "$directory"
}
