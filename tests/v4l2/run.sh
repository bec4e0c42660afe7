#!/usr/bin/env bash
# Cameras on the real Video4Linux: a Debian kernel in QEMU with its virtual camera (vivid), and a program of this library in it.
#
#     cargo build --example frames && bash tests/v4l2/run.sh target/debug/examples/frames target/debug/lseg-fast
#
# The second program, lseg-fast itself, may be left out.
# Needs qemu-system-x86_64, busybox (static), cpio, kmod, apt-get and dpkg-deb. The kernel's package (70 MB) is
# fetched once into target/v4l2 and unpacked there; nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=$(realpath "$1")
work=$PWD/target/v4l2
mkdir -p "$work"

if ! ls "$work"/root/boot/vmlinuz-* > /dev/null 2>&1; then
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\)/\1/p' | head -n 1)
    (cd "$work" && apt-get download "$package" && dpkg-deb -x "$package"_*.deb root)
fi
kernel=$(ls "$work"/root/boot/vmlinuz-* | head -n 1)
version=${kernel##*/vmlinuz-}
[ -e "$work/root/lib/modules/$version/modules.dep" ] || /sbin/depmod -b "$work/root" "$version"

# The machine's files: busybox, the program with its libraries, vivid and what it needs in the order in which that is loaded.
files=$work/files
rm -rf "$files"
mkdir -p "$files"/{bin,dev,proc,sys,tmp,modules}
cp "$(command -v busybox)" "$files/bin/busybox"
cp "$binary" "$files/bin/frames"
cp tests/v4l2/init "$files/init"
chmod +x "$files/init"
if [ $# -gt 1 ]; then
    program=$(realpath "$2")
    cp "$program" "$files/bin/lseg-fast"
fi
for each in "$binary" ${program:+"$program"}; do ldd "$each"; done | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$files$(dirname "$library")"
    cp -L "$library" "$files$library"
done
/sbin/modprobe -d "$work/root" -S "$version" --show-depends vivid | sed -n 's/^insmod \([^ ]*\).*/\1/p' | while read -r module; do
    name=${module##*/}
    case $name in
        *.xz) name=${name%.xz}; xz -dc "$module" > "$files/modules/$name" ;;
        *.zst) name=${name%.zst}; zstd -qdc "$module" > "$files/modules/$name" ;;
        *) cp "$module" "$files/modules/$name" ;;
    esac
    echo "$name" >> "$files/modules/order"
done
(cd "$files" && find . | cpio --quiet -o -H newc | gzip -1) > "$work/initramfs.gz"

# LSEG_V4L2_KVM=1 where KVM is there and works: in a machine that is virtual itself, it may hang.
accelerate=(-cpu max)
if [ "${LSEG_V4L2_KVM:-0}" = 1 ]; then accelerate=(-enable-kvm -cpu host); fi
timeout "${LSEG_V4L2_SECONDS:-300}" qemu-system-x86_64 "${accelerate[@]}" -m 1024 -smp 2 -nographic -no-reboot -nic none -kernel "$kernel" \
    -initrd "$work/initramfs.gz" -append 'console=ttyS0 quiet panic=-1 rdinit=/init' < /dev/null | tr -d '\r' | tee "$work/log.txt"
grep -q '^all passed' "$work/log.txt"
