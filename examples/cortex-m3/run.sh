#!/usr/bin/env bash
# Builds the images for two chips, with compare-and-swap (Cortex-M3) and without (Cortex-M0), runs them in QEMU, and compares
# what they print, how large they are and how many instructions they take with the golden files.
#
#   examples/cortex-m3/run.sh            compare
#   examples/cortex-m3/run.sh --bless    write the golden files anew
#
# Takes the everyday toolchain if it has the targets (rustup target add thumbv7m-none-eabi thumbv6m-none-eabi). If not,
# takes Debian's compiler, which comes with the standard library's source, and installs it and QEMU if they are missing.
set -euo pipefail
cd "$(dirname "$0")"

# The first compares and swaps; the second has to do without. One machine runs the code of both.
chips=(thumbv7m thumbv6m)
# Those that are weighed.
images=(squares squares-by-hand same-fringe squares-bare squares-by-hand-bare bare bare-fixed-block bare-size-classes)
# What is small, and what is fast.
profiles=(release fast)
# Compilers differ a little: the code may be so many per cent larger or smaller than the golden file says. Static data is
# ours alone, so it may not differ at all.
tolerance=3
# Likewise so many per cent more or fewer instructions, or so many.
tolerance_per_cent=10
tolerance_instructions=3
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
has_target() { [ -d "$(rustc --print target-libdir --target "$1-none-eabi" 2>/dev/null || true)" ]; }

has nm || install binutils
# Debian's qemu-utils may be newer than its QEMU, and then conflicts with it.
has qemu-system-arm || install qemu-system-arm || install qemu-system-arm 'qemu-utils=1:7.2*'
if has_target thumbv7m && has_target thumbv6m; then
    build=(cargo build --locked)
else
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] || install rustc-web cargo-web
    has ld.lld || install lld
    [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/core" ] || install rust-web-src
    export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1
    export CARGO_TARGET_THUMBV7M_NONE_EABI_LINKER=ld.lld CARGO_TARGET_THUMBV6M_NONE_EABI_LINKER=ld.lld
    build=(/usr/bin/cargo build --locked -Zbuild-std=core)
fi
for chip in "${chips[@]}"; do build+=(--target "$chip-none-eabi"); done
# Whatever the host is built with (a sanitizer, a lint level) is not meant for the chip, and two compilers must not share
# a directory.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/cortex-m3"
"${build[@]}" --release
"${build[@]}" --profile fast --bin pools --bin costs --bin call-costs

now=$(mktemp -d)
trap 'rm -r "$now"' EXIT
failed=false
fail() { echo "FAILED: $*" >&2; failed=true; }

image_of() { echo "$CARGO_TARGET_DIR/$1-none-eabi/$2/$3"; } # chip, profile, image

# The machine's time counts instructions, so that interrupts come at the same place in every run. It has a timer whose
# harmless complaint goes to standard error.
run() { # chip, profile, image, output
    echo "running $3 ($1, $2)"
    timeout 60 qemu-system-arm -cpu cortex-m3 -machine lm3s6965evb -nographic -icount shift=0 \
        -semihosting-config enable=on,target=native -kernel "$(image_of "$1" "$2" "$3")" >"$4" 2>"$now/stderr" </dev/null || {
        echo "$3 ($1, $2) failed with exit code $?" >&2
        cat "$4" "$now/stderr" >&2
        exit 1
    }
}

# What an image prints is the same everywhere, but for the forms that a chip without compare-and-swap lacks.
golden_text() { # chip, image
    case $1/$2 in
        thumbv6m/pools) echo pools-thumbv6m.txt ;;
        *) echo "$2.txt" ;;
    esac
}

mkdir -p golden
for chip in "${chips[@]}"; do
    for image in "${images[@]}" pools; do
        for profile in "${profiles[@]}"; do
            [ "$profile" = release ] || [ "$image" = pools ] || continue
            run "$chip" "$profile" "$image" "$now/output"
            golden=golden/$(golden_text "$chip" "$image")
            if $bless && [ "$profile" = release ] && [ -s "$now/output" ]; then cp "$now/output" "$golden"; fi
            case $image in
                *bare*) [ ! -s "$now/output" ] || fail "$image ($chip, $profile) prints something" ;;
                *) diff -u "$golden" "$now/output" || fail "$image ($chip, $profile) prints something else" ;;
            esac
        done
    done

    # One line for each image: its name, and the bytes of code and constants (without the vector table), data, bss.
    for image in "${images[@]}"; do
        size -A "$(image_of "$chip" release "$image")" | awk -v image="$chip/$image" '
            $1 == ".text" || $1 == ".rodata" { text += $2 }
            $1 == ".data" { data = $2 }
            $1 == ".bss" { bss = $2 }
            END { print image, text, data, bss }'
    done >>"$now/sizes.txt"

    # One line for each form: where, what, and the instructions of an allocation for the first time, of one of a released
    # block, and of a release; likewise the instructions of a call of a subroutine in a frame that is kept, in one that is
    # taken for each call, and by an async block.
    for profile in "${profiles[@]}"; do
        run "$chip" "$profile" costs "$now/output"
        run "$chip" "$profile" call-costs "$now/more"
        awk -v where="$chip/$profile" 'FNR > 1 { print where "/" $1 "/" $2, $3, $4, $5 }' "$now/output" "$now/more" >>"$now/costs.txt"
    done
done

if $bless; then
    cp "$now"/{sizes.txt,costs.txt} golden/
    echo "golden files written:"
    cat golden/{sizes.txt,costs.txt}
fi

while read -r image text data bss; do
    echo "$image: $text bytes of code and constants, $data of data, $bss of bss"
    read -r _ was_text was_data was_bss < <(grep "^$image " golden/sizes.txt) || { fail "no golden size of $image"; continue; }
    difference=$((text - was_text))
    if [ $((${difference#-} * 100)) -gt $((was_text * tolerance)) ]; then
        fail "$image has $text bytes of code and constants; the golden file says $was_text"
    fi
    [ "$data $bss" = "$was_data $was_bss" ] || fail "$image has other data or bss than the golden file: $was_data $was_bss"
    if [ "$image" = thumbv7m/squares-bare ] && [ "$text" -gt $aim ]; then
        echo "$image: $((text - aim)) bytes more than the $aim that it should have at the most"
    fi
done <"$now/sizes.txt"

unlike=$(awk -v per_cent=$tolerance_per_cent -v least=$tolerance_instructions '
    FNR == 1 { file++ }
    file == 1 { was[$1] = $2 " " $3 " " $4; next }
    { now[$1] = 1; split(was[$1], golden, " ")
      for (i = 1; i <= 3; i++) {
          difference = $(i + 1) - golden[i]; if (difference < 0) difference = -difference
          if (difference > least && difference * 100 > golden[i] * per_cent) {
              print $1 " takes " $2 " " $3 " " $4 " instructions; the golden file says " was[$1]
              break
          }
      } }
    END { for (form in was) if (!(form in now)) print form " was not measured" }' golden/costs.txt "$now/costs.txt")
[ -z "$unlike" ] || fail "$unlike"

# Formatting, and panics that carry it, must not come into an image that prints nothing. What the compiler itself puts
# into each async fn (a poll after the end) goes to the panic handler without any.
for chip in "${chips[@]}"; do
    for image in squares-bare squares-by-hand-bare bare-fixed-block bare-size-classes; do
        symbols=$(nm -C "$(image_of "$chip" release "$image")" | cut -d ' ' -f 3- | sort -u)
        unwanted=$(grep -E 'core::fmt::|core::panicking::|core::result::unwrap|core::option::(unwrap|expect)|slice_index|core::str::' \
            <<<"$symbols" | grep -vE 'core::panicking::(panic_fmt|panic_const::panic_const_async_fn_resumed)$' || true)
        [ -z "$unwanted" ] || fail "$chip/$image contains what it should not:"$'\n'"$unwanted"
    done
done

if $failed; then
    echo "If the change is meant, run: $0 --bless" >&2
    exit 1
fi
echo "the images print, weigh and take what they should"
