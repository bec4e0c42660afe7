// What is how large in a photo: segment PHOTO.ppm LABEL LABEL …

#include <lseg_fast.h>

#include <stdio.h>
#include <stdlib.h>

static int failed(const char *what) {
    fprintf(stderr, "error: %s: %s\n", what, lseg_error());
    return 1;
}

int main(int count, char **arguments) {
    unsigned width, height;
    FILE *file = count < 3 ? NULL : fopen(arguments[1], "rb");
    if (file == NULL || fscanf(file, "P6 %u %u 255", &width, &height) != 2 || fgetc(file) == EOF) {
        fprintf(stderr, "usage: segment PHOTO.ppm LABEL LABEL ...\n");
        return 2;
    }
    const size_t pixels = (size_t)width * height, labels = (size_t)count - 2;
    unsigned char *rgb = malloc(3 * pixels);
    if (rgb == NULL || fread(rgb, 3, pixels, file) != pixels) return 2;
    fclose(file);

    lseg_engine *engine;
    if (lseg_open(NULL, &engine) != LSEG_OK) return failed("open");
    if (lseg_set_labels(engine, (const char *const *)arguments + 2, labels) != LSEG_OK) return failed("labels");
    uint16_t *mask = malloc(pixels * sizeof *mask);
    if (mask == NULL) return 2;
    const lseg_image image = {.size = sizeof image, .format = LSEG_FORMAT_RGB8, .width = width, .height = height, .plane = {rgb}};
    const lseg_output output = {.size = sizeof output, .kind = LSEG_MASK16, .data = mask, .bytes = pixels * sizeof *mask};
    if (lseg_segment(engine, &image, &output, 1) != LSEG_OK) return failed("segment");

    for (size_t label = 0; label < labels; label++) {
        size_t seen = 0;
        for (size_t i = 0; i < pixels; i++) seen += mask[i] == label;
        printf("%s: %.1f %%\n", arguments[2 + label], 100.0 * (double)seen / (double)pixels);
    }
    lseg_close(engine);
    free(mask);
    free(rgb);
    return 0;
}
