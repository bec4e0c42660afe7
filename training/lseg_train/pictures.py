"""Photos and masks of strangers' files as arrays. Whatever is wrong with one is a `Refused` that names it."""

import warnings

import numpy as np
from PIL import Image, ImageOps

from .errors import Refused
from .lists import shown

PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
MOST_PIXELS = 89_478_485
"""Pillow's own limit of what is no decompression bomb; above it Pillow only warns, up to twice as much."""

GREY_STEPS = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies the values of such PNG files by, to fill 8 bits."""

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # `opened` refuses these pictures


def opened(path, expected, formats):
    try:
        image = Image.open(path, formats=formats)
    except FileNotFoundError:
        raise Refused(f"{shown(path)}: expected {expected}, found no such file") from None
    except Exception as error:  # Pillow's decoders raise anything on hostile bytes
        raise Refused(f"{shown(path)}: expected {expected}, found what cannot be read ({reason(error)})") from None
    width, height = image.size
    if width * height > MOST_PIXELS:
        image.close()
        raise Refused(f"{shown(path)}: expected at most {MOST_PIXELS} pixels, found {width}×{height}")
    return image


def reason(error):
    return shown(str(error) or type(error).__name__)


def damaged(path, expected, error):
    return Refused(f"{shown(path)}: expected {expected}, found a damaged file ({reason(error)})")


def photo(path):
    """u8 [h, w, 3], upright, what is transparent on white."""
    expected = "a whole photo"
    with opened(path, expected, PHOTO_FORMATS) as image:
        try:
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # grey of 16 bits
                image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return np.array(image.convert("RGB"))
        except Exception as error:  # as above
            raise damaged(path, expected, error) from None


def mask_of(path, expected, formats, modes):
    """The decoded image of one of these modes and, of a grey PNG, how its values were packed."""
    with opened(path, expected, formats) as image:
        if modes and image.mode not in modes:
            raise Refused(f"{shown(path)}: expected {expected}, found pixels of kind {image.mode}")
        packed = image.tile[0].args if image.tile else None
        try:
            image.load()
        except Exception as error:  # as above
            raise damaged(path, expected, error) from None
        return image, packed


def ids(path):
    """A mask's values, int32 [h, w]: a grey pixel's value (of 1 to 16 bits), an indexed one's index, not its colour."""
    expected = "a mask: ids in a grey or indexed PNG of 8 or 16 bits"
    image, packed = mask_of(path, expected, ("PNG",), ("1", "L", "P", "I", "I;16"))
    return np.asarray(image).astype(np.int32) // GREY_STEPS.get(packed, 1)


def panoptic_ids(path):
    """A COCO-Panoptic mask's segments, r + 256 g + 65536 b, int32 [h, w]."""
    image, _ = mask_of(path, "a panoptic mask: segments in an RGB PNG", ("PNG",), ("RGB",))
    return np.asarray(image).astype(np.int32) @ np.array([1, 256, 65536], np.int32)


def bright(path):
    """Whether a picture's pixels are brighter than half, as Pillow's grey of them is 128 or more; bool [h, w]."""
    image, _ = mask_of(path, "a mask: a picture, bright where the class is", PHOTO_FORMATS, None)
    return np.asarray(image.convert("L")) >= 128
