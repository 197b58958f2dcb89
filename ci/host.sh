# shellcheck shell=bash
# Sourced by every command here: strict mode, the repository as working directory, progress lines,
# and what the host lacks. Debian 12 or 13, root, a Rust toolchain.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
export DEBIAN_FRONTEND=noninteractive

# say TEXT: one progress line with the time since the command began.
say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }

# step TITLE COMMAND…: runs the command, and says what it is and how long it took.
step() {
    local title=$1 start=$SECONDS
    shift
    say "$title"
    "$@"
    say "$title: done in $((SECONDS - start)) s"
}

# need_packages NAME…: installs the Debian packages that are missing, asking the archive only then.
need_packages() {
    local missing=() name
    for name in "$@"; do
        dpkg-query -W -f '${Status}\n' "$name" 2>/dev/null | grep -qx 'install ok installed' || missing+=("$name")
    done
    ((${#missing[@]})) || return 0
    [[ $EUID -eq 0 ]] || { say "missing packages, and only root can install them: ${missing[*]}"; return 1; }
    say "installing: ${missing[*]}"
    # A foreign source that does not answer must not stop us: the install below fails if it matters.
    apt-get update -qq || say "apt-get update: not every source answered"
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# need_cargo_tool NAME: installs a cargo subcommand from the registry if there is none.
need_cargo_tool() {
    cargo "${1#cargo-}" --version >/dev/null 2>&1 && return
    # Compiled in a hurry: it runs for seconds, and on two cores its optimisation would take minutes.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        step "installing $1" cargo install --locked --quiet "$1"
}

# run_tests ARGUMENT…: cargo nextest run, with its summary repeated in the words of `cargo test`, so that
# whoever reads the output of CI finds the same line for every ring.
run_tests() {
    # An error of a test tells its story by itself; a backtrace would bury it.
    export RUST_LIB_BACKTRACE=0
    cargo nextest run --color never --no-fail-fast "$@" 2>&1 | repeat_summary
}

# repeat_summary: passes nextest's output on, line by line as it comes, and repeats its summary as `cargo test` would write it.
# Summary [   1.234s] 12 tests run: 11 passed (1 slow), 1 failed, 3 skipped
repeat_summary() {
    local line took counts failed result
    while IFS= read -r line; do
        printf '%s\n' "$line"
        [[ $line =~ Summary\ \[\ *([0-9.]+)s\].*tests?\ run:\ (.*) ]] || continue
        took=${BASH_REMATCH[1]} counts=${BASH_REMATCH[2]}
        failed=$(($(count failed) + $(count 'exec failed') + $(count 'timed out')))
        result=ok
        ((failed == 0)) || result=FAILED
        printf 'test result: %s. %d passed; %d failed; 0 ignored; 0 measured; %d filtered out; finished in %ss\n' \
            "$result" "$(count passed)" "$failed" "$(count skipped)" "$took"
    done
}

# count WORD: how many of $counts are that.
count() { [[ ", $counts" =~ ,\ ([0-9]+)\ $1 ]] && echo "${BASH_REMATCH[1]}" || echo 0; }

# next_image TRILITH: builds the image once more under a newer version, for tests that upgrade a node to it.
next_image() {
    local image version
    image=$(find target/image -maxdepth 1 -name '*.raw' -printf '%T@ %f\n' | sort -n | tail -n 1 | cut -d' ' -f2)
    version=${image#trilith_}
    version=${version%.raw}.1
    step "image of a newer version" "$1" build --version "$version" --output "$PWD/target/next-image"
    export TRILITH_NEXT_IMAGE=$PWD/target/next-image/trilith_$version.raw
}

# old_image TRILITH: builds the image once more as Debian's last point release was, so that what is upgraded from it gets all
# security updates since. Another old image is taken if one is named.
old_image() {
    [[ -z ${TRILITH_OLD_IMAGE:-} ]] || return 0
    local version=2025.1.1-0
    step "image of Debian's last point release" "$1" build --point-release --version "$version" --output "$PWD/target/old-image"
    export TRILITH_OLD_IMAGE=$PWD/target/old-image/trilith_$version.raw
}

# shellcheck disable=SC2034  # these two are for the commands that source this file
# What every build of the workspace needs: rustc its linker, cargo its certificates, the agent libvirt, and
# trilith-rados Ceph's library.
build_packages=(build-essential ca-certificates git librados-dev libvirt-dev pkg-config)
# shellcheck disable=SC2034
# What makes and starts machines and namespaces: the tools tree, and the programs that work outside it.
lab_packages=(mmdebstrap bubblewrap dnsmasq-base fdisk iproute2 iputils-ping ipxe libfaketime nftables openssh-client)
