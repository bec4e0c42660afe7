// What the test programs share. A check that fails says where and ends the program.

#ifndef CHECK_H
#define CHECK_H

#include "lseg_fast.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n  last error: %s\n", __FILE__, __LINE__, #condition, lseg_error()); \
            exit(1); \
        } \
    } while (0)

// A call that works.
#define WORKS(call) CHECK((call) == LSEG_OK)

// A call that fails with this status and words that have this in them.
#define FAILS(call, status, words) \
    do { \
        CHECK((call) == (status)); \
        CHECK(strstr(lseg_error(), (words)) != NULL); \
    } while (0)

static inline lseg_options cpu_options(void) {
    lseg_options options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.device = "cpu";
    options.threads = 2;
    options.model = getenv("LSEG_TEST_MODEL"); // The demo model, or a smaller one.
    return options;
}

static inline lseg_image rgb_image(uint32_t width, uint32_t height, const void *pixels) {
    lseg_image image;
    memset(&image, 0, sizeof image);
    image.size = sizeof image;
    image.format = LSEG_FORMAT_RGB8;
    image.width = width;
    image.height = height;
    image.plane[0] = pixels;
    return image;
}

static inline lseg_output output_of(int32_t kind, void *data, size_t bytes) {
    lseg_output output;
    memset(&output, 0, sizeof output);
    output.size = sizeof output;
    output.kind = kind;
    output.data = data;
    output.bytes = bytes;
    return output;
}

// A picture with something in it: green below, blue above, a red disc.
static inline void paint(uint8_t *rgb, uint32_t width, uint32_t height) {
    for (uint32_t y = 0; y < height; y++) {
        for (uint32_t x = 0; x < width; x++) {
            uint8_t *pixel = rgb + 3 * ((size_t)y * width + x);
            const int dx = (int)x - (int)width / 2, dy = (int)y - (int)height / 2, r = (int)height / 4;
            const int inside = dx * dx + dy * dy < r * r, below = y > height / 2;
            pixel[0] = inside ? 220 : (uint8_t)(40 + x % 16);
            pixel[1] = inside ? 30 : (uint8_t)(below ? 160 : 120);
            pixel[2] = inside ? 20 : (uint8_t)(below ? 50 : 230);
        }
    }
}

static inline lseg_engine *open_small(void) {
    static const char *const labels[] = {"red ball", "grass", "sky"};
    const lseg_options options = cpu_options();
    lseg_engine *engine = NULL;
    WORKS(lseg_open(&options, &engine));
    WORKS(lseg_set_size(engine, "64x64"));
    WORKS(lseg_set_labels(engine, labels, 3));
    return engine;
}

#endif
