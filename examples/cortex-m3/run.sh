#!/usr/bin/env bash
# Builds the images, runs them in QEMU, and compares what they print and how large they are with the golden files.
#
#   examples/cortex-m3/run.sh            compare
#   examples/cortex-m3/run.sh --bless    write the golden files anew
#
# Takes the everyday toolchain if it has the target (rustup target add thumbv7m-none-eabi). If not, takes Debian's
# compiler, which comes with the standard library's source, and installs it and QEMU if they are missing.
set -euo pipefail
cd "$(dirname "$0")"

target=thumbv7m-none-eabi
# Compilers differ a little: the code may be so many per cent larger or smaller than the golden file says. Static data is
# ours alone, so it may not differ at all.
tolerance=3
# What squares-bare should take at the most, in bytes, besides the vector table: said, not enforced, until it does.
aim=6144

case "${1-}" in
    '') bless=false ;;
    --bless) bless=true ;;
    *) echo "usage: $0 [--bless]" >&2; exit 2 ;;
esac

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
updated=false
install() {
    echo "installing $*"
    if ! $updated; then as_root apt-get update -qq; updated=true; fi
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends --allow-downgrades "$@" >/dev/null
}
has() { command -v "$1" >/dev/null; }

has nm || install binutils
# Debian's qemu-utils may be newer than its QEMU, and then conflicts with it.
has qemu-system-arm || install qemu-system-arm || install qemu-system-arm 'qemu-utils=1:7.2*'
if [ -d "$(rustc --print target-libdir --target $target 2>/dev/null || true)" ]; then
    build=(cargo build --release --locked)
else
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] || install rustc-web cargo-web
    has ld.lld || install lld
    [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/core" ] || install rust-web-src
    export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1
    export CARGO_TARGET_THUMBV7M_NONE_EABI_LINKER=ld.lld
    build=(/usr/bin/cargo build --release --locked -Zbuild-std=core)
fi
# Whatever the host is built with (a sanitizer, a lint level) is not meant for the chip, and two compilers must not share
# a directory.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/cortex-m3"
"${build[@]}"
images=$CARGO_TARGET_DIR/$target/release

now=$(mktemp -d)
trap 'rm -r "$now"' EXIT

# QEMU's machine has a timer whose harmless complaint goes to standard error.
for image in squares squares-bare; do
    echo "running $image"
    timeout 60 qemu-system-arm -cpu cortex-m3 -machine lm3s6965evb -nographic \
        -semihosting-config enable=on,target=native -kernel "$images/$image" >"$now/$image.txt" 2>"$now/stderr" </dev/null || {
        echo "$image failed with exit code $?" >&2
        cat "$now/$image.txt" "$now/stderr" >&2
        exit 1
    }
done

# One line for each image: its name, and the bytes of code and constants (without the vector table), data, bss.
for image in squares squares-bare; do
    size -A "$images/$image" | awk -v image=$image '
        $1 == ".text" || $1 == ".rodata" { text += $2 }
        $1 == ".data" { data = $2 }
        $1 == ".bss" { bss = $2 }
        END { print image, text, data, bss }'
done >"$now/sizes.txt"

if $bless; then
    mkdir -p golden
    cp "$now"/{squares.txt,squares-bare.txt,sizes.txt} golden/
    echo "golden files written:"
    cat golden/sizes.txt
    exit
fi

failed=false
fail() { echo "FAILED: $*" >&2; failed=true; }

for image in squares squares-bare; do
    diff -u "golden/$image.txt" "$now/$image.txt" || fail "$image prints something else"
done
while read -r image text data bss; do
    read -r _ was_text was_data was_bss < <(grep "^$image " golden/sizes.txt)
    echo "$image: $text bytes of code and constants, $data of data, $bss of bss"
    difference=$((text - was_text))
    if [ $((${difference#-} * 100)) -gt $((was_text * tolerance)) ]; then
        fail "$image has $text bytes of code and constants; the golden file says $was_text"
    fi
    [ "$data $bss" = "$was_data $was_bss" ] || fail "$image has other data or bss than the golden file: $was_data $was_bss"
    if [ "$image" = squares-bare ] && [ "$text" -gt $aim ]; then
        echo "$image: $((text - aim)) bytes more than the $aim that it should have at the most"
    fi
done <"$now/sizes.txt"

# Formatting, and panics that carry it, must not come into an image that prints nothing. What the compiler itself puts
# into each async fn (a poll after the end) goes to the panic handler without any.
symbols=$(nm -C "$images/squares-bare" | cut -d ' ' -f 3- | sort -u)
unwanted=$(grep -E 'core::fmt::|core::panicking::|core::result::unwrap|core::option::(unwrap|expect)|slice_index|core::str::' \
    <<<"$symbols" | grep -vE 'core::panicking::(panic_fmt|panic_const::panic_const_async_fn_resumed)$' || true)
[ -z "$unwanted" ] || fail "squares-bare contains what it should not:"$'\n'"$unwanted"

if $failed; then
    echo "If the change is meant, run: $0 --bless" >&2
    exit 1
fi
echo "the images print and weigh what they should"
