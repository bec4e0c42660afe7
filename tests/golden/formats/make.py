"""What ffmpeg's swscale makes RGB of: small pictures with luma and chroma, or with bytes in another order.

    python make.py FFMPEG          → *.bin and cases.json beside this file
    python make.py FFMPEG --check  compares with what is committed

FFMPEG is the program; README.md says which one made what is here. Nothing but Python's own library is needed.
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# (width, height): two rows and two columns share chroma; even, for swscale has no rows of half a pair.
WIDTH, HEIGHT = 44, 26
# Chroma of the nearest, exact sums, no interpolation of chroma on either side.
FLAGS = "neighbor+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
COMMAND = (
    "{ffmpeg} -nostdin -loglevel error -f rawvideo -pixel_format {pixel_format} -video_size {width}x{height} -i {source} "
    "-vf scale=flags={flags}:in_color_matrix={matrix}:in_range={range}:out_range=pc "
    "-frames:v 1 -f rawvideo -pix_fmt rgb24 -"
)
# Our names and ffmpeg's.
FORMATS = {"nv12": "nv12", "yuyv": "yuyv422", "bgr8": "bgr24", "rgba8": "rgb0", "bgra8": "bgr0", "mono8": "gray"}
MATRICES = {"bt601": "bt601", "bt709": "bt709"}
RANGES = {"video": "tv", "full": "pc"}


def numbers(seed):
    """Bytes that are the same everywhere (Knuth's linear congruential generator)."""
    state = seed
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield state >> 56


# swscale makes 0, not 255, of a colour of 512 and more, which no camera means: the brightest blue stays below.
MOST_LUMA, MOST_CHROMA = 245, 240


def luma(x, noise):
    """A ramp over nearly all values, with noise."""
    return max(0, min(MOST_LUMA, x * 255 // (WIDTH - 1) + next(noise) % 31 - 15))


def chroma(pair, row, rows, noise):
    """Both ramps over nearly all values, with noise."""
    cb = max(0, min(MOST_CHROMA, row * 255 // (rows - 1) + next(noise) % 31 - 15))
    cr = max(0, min(MOST_CHROMA, pair * 37 % 256 + next(noise) % 31 - 15))
    return cb, cr


def nv12():
    noise = numbers(12)
    picture = [luma(x, noise) for y in range(HEIGHT) for x in range(WIDTH)]
    for row in range(HEIGHT // 2):
        for pair in range(WIDTH // 2):
            picture += chroma(pair, row, HEIGHT // 2, noise)
    return bytes(picture)


def yuyv():
    noise = numbers(422)
    picture = []
    for y in range(HEIGHT):
        for pair in range(WIDTH // 2):
            cb, cr = chroma(pair, y, HEIGHT, noise)
            picture += [luma(2 * pair, noise), cb, luma(2 * pair + 1, noise), cr]
    return bytes(picture)


def plain(step):
    noise = numbers(step)
    return bytes(next(noise) for _ in range(WIDTH * HEIGHT * step))


def sources():
    return {"nv12": nv12(), "yuyv": yuyv(), "bgr8": plain(3), "rgba8": plain(4), "bgra8": plain(4), "mono8": plain(1)}


def cases():
    """(our format, source's name, ffmpeg's matrix and range)"""
    for name in FORMATS:
        if name in ("nv12", "yuyv"):
            for matrix in MATRICES:
                for range in RANGES:
                    yield f"{name}:{matrix}:{range}", name, MATRICES[matrix], RANGES[range]
        else:
            yield name, name, "auto", "pc"


def convert(ffmpeg, source, name, matrix, range):
    size = {"width": WIDTH, "height": HEIGHT}
    of = {"pixel_format": FORMATS[name], "matrix": matrix, "range": range, "flags": FLAGS}
    command = COMMAND.format(ffmpeg=ffmpeg, source=source, **size, **of)
    return subprocess.run(command.split(), check=True, capture_output=True).stdout


def main(ffmpeg, check):
    different = []

    def put(name, data):
        path = HERE / name
        if check:
            if path.read_bytes() != data:
                different.append(name)
        else:
            path.write_bytes(data)

    for name, data in sources().items():
        put(f"{name}.bin", data)
    listed = []
    for format, name, matrix, range in cases():
        rgb = convert(ffmpeg, HERE / f"{name}.bin", name, matrix, range)
        assert len(rgb) == WIDTH * HEIGHT * 3, f"{format}: {len(rgb)} bytes"
        out = f"{format.replace(':', '_')}.rgb.bin"
        put(out, rgb)
        listed.append({"format": format, "picture": f"{name}.bin", "rgb": out})
    version = subprocess.run([ffmpeg, "-version"], check=True, capture_output=True, text=True).stdout.split()[2]
    about = {"ffmpeg": version, "command": COMMAND, "flags": FLAGS, "width": WIDTH, "height": HEIGHT, "cases": listed}
    put("cases.json", (json.dumps(about, indent=1) + "\n").encode())
    if check:
        print(f"different: {', '.join(different)}" if different else "all as committed")
        sys.exit(bool(different))


if __name__ == "__main__":
    main(sys.argv[1], "--check" in sys.argv)
