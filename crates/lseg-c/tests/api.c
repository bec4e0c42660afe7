// Every function, every status that a CPU can give, every NULL.

#include "check.h"

#include <math.h>

enum { WIDTH = 80, HEIGHT = 60, PITCH = 320, PIXELS = WIDTH * HEIGHT };

static uint8_t pixels[3 * PIXELS];
static uint16_t mask[PIXELS];

static void about_the_library(void) {
    CHECK(lseg_abi() == LSEG_ABI);
    CHECK(strcmp(lseg_version(), VERSION) == 0);
    CHECK(strcmp(lseg_error(), "") == 0);
    static const char *const names[] = {"LSEG_OK",   "LSEG_INVALID", "LSEG_MODEL",     "LSEG_INPUT",      "LSEG_DEVICE",
                                        "LSEG_LOST", "LSEG_BUSY",    "LSEG_NO_MEMORY", "LSEG_NOT_FINITE", "LSEG_PANIC",
                                        "LSEG_FULL", "LSEG_EMPTY"};
    for (int32_t status = LSEG_OK; status <= LSEG_EMPTY; status++) {
        CHECK(strcmp(lseg_status_name(status), names[status]) == 0);
    }
    CHECK(strcmp(lseg_status_name(-1), "unknown") == 0);
    CHECK(strcmp(lseg_status_name(LSEG_EMPTY + 1), "unknown") == 0);
}

static void opening(void) {
    lseg_engine *engine = NULL;
    lseg_options options = cpu_options();
    FAILS(lseg_open(&options, NULL), LSEG_INVALID, "engine is NULL");
    lseg_close(NULL);

    options.model = "/nowhere/lseg.safetensors";
    engine = (lseg_engine *)&options;
    FAILS(lseg_open(&options, &engine), LSEG_MODEL, "/nowhere/lseg.safetensors");
    CHECK(engine == NULL);
    options.model = __FILE__;
    FAILS(lseg_open(&options, &engine), LSEG_MODEL, "api.c");
    options.model = "\xff";
    FAILS(lseg_open(&options, &engine), LSEG_INVALID, "options.model is not UTF-8 from byte 0 on");

    options = cpu_options();
    options.device = "toaster";
    FAILS(lseg_open(&options, &engine), LSEG_DEVICE, "toaster");
    options.device = "cuda:99";
    FAILS(lseg_open(&options, &engine), LSEG_DEVICE, "");

    options = cpu_options();
    options.memory = 1;
    FAILS(lseg_open(&options, &engine), LSEG_NO_MEMORY, "");

    options = cpu_options();
    options.context = 2;
    FAILS(lseg_open(&options, &engine), LSEG_INVALID, "options.context is 2: expected one of enum lseg_context");
    options.context = LSEG_CONTEXT_OWN;
    options.wait = -1;
    FAILS(lseg_open(&options, &engine), LSEG_INVALID, "options.wait is -1");
    options.wait = LSEG_WAIT_BLOCK;
    options.timeout_ms = 60000;
    WORKS(lseg_open(&options, &engine));
    lseg_close(engine);
}

// An options struct as an older program has it, and one of a newer.
static void structs_of_other_versions(void) {
    lseg_engine *engine = NULL;
    const char *device = NULL;
    lseg_options options = cpu_options();
    options.threads = 1000000;
    options.memory = 1;
    options.size = offsetof(lseg_options, context);
    WORKS(lseg_open(&options, &engine)); // What lies behind its size is not looked at.
    WORKS(lseg_device(engine, &device));
    CHECK(strncmp(device, "cpu", 3) == 0);
    lseg_close(engine);

    struct {
        lseg_options known;
        uint64_t unknown;
    } newer;
    memset(&newer, 0, sizeof newer);
    newer.known = cpu_options();
    newer.known.size = sizeof newer;
    WORKS(lseg_open(&newer.known, &engine));
    lseg_close(engine);
    newer.unknown = 1;
    FAILS(lseg_open(&newer.known, &engine), LSEG_INVALID, "run with a newer library");

    static const size_t wrong[] = {0, 1, 7, 9, 4104, SIZE_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        options.size = wrong[i];
        FAILS(lseg_open(&options, &engine), LSEG_INVALID, "set it to sizeof(lseg_options)");
    }
}

static void words(lseg_engine *engine) {
    const char *const *labels = NULL;
    size_t count = 0, dimension = 0;
    static const char *const some[] = {"a dog", "grass", "sky"}, *const hole[] = {"a dog", NULL}, *const latin1[] = {"caf\xe9"};
    static const char *const twice[] = {"sky", "sky"}, *const templates[] = {"a picture of a {}", "a {}"}, *const none[] = {"a"};
    static float vectors[2][3 * 4096];

    WORKS(lseg_labels(engine, &labels, &count));
    CHECK(count == 0);
    WORKS(lseg_set_labels(engine, some, 3));
    WORKS(lseg_labels(engine, &labels, &count));
    CHECK(count == 3 && strcmp(labels[0], "a dog") == 0 && strcmp(labels[2], "sky") == 0);
    FAILS(lseg_set_labels(NULL, some, 3), LSEG_INVALID, "engine is NULL");
    FAILS(lseg_set_labels(engine, NULL, 3), LSEG_INVALID, "labels is NULL");
    FAILS(lseg_set_labels(engine, hole, 2), LSEG_INVALID, "labels[1] is NULL");
    FAILS(lseg_set_labels(engine, latin1, 1), LSEG_INVALID, "labels[0] is not UTF-8 from byte 3 on");
    FAILS(lseg_set_labels(engine, some, SIZE_MAX), LSEG_INVALID, "more than memory has");
    FAILS(lseg_set_labels(engine, (const char *const *)(const void *)((const char *)some + 1), 1), LSEG_INVALID, "no multiple of");
    FAILS(lseg_set_labels(engine, NULL, 0), LSEG_INPUT, "label");
    FAILS(lseg_set_labels(engine, twice, 2), LSEG_INPUT, "sky");
    WORKS(lseg_labels(engine, &labels, &count)); // The old ones stayed.
    CHECK(count == 3 && strcmp(labels[1], "grass") == 0);
    FAILS(lseg_labels(NULL, &labels, &count), LSEG_INVALID, "engine is NULL");
    FAILS(lseg_labels(engine, NULL, &count), LSEG_INVALID, "labels is NULL");
    FAILS(lseg_labels(engine, &labels, NULL), LSEG_INVALID, "count is NULL");

    WORKS(lseg_dimension(engine, &dimension));
    CHECK(dimension > 0 && dimension <= 4096);
    FAILS(lseg_dimension(NULL, &dimension), LSEG_INVALID, "engine is NULL");
    FAILS(lseg_dimension(engine, NULL), LSEG_INVALID, "dimension is NULL");
    WORKS(lseg_text(engine, some, 3, vectors[0]));
    for (size_t i = 0; i < 3; i++) {
        double squares = 0;
        for (size_t k = 0; k < dimension; k++) squares += pow((double)vectors[0][i * dimension + k], 2);
        CHECK(fabs(squares - 1) < 1e-5);
    }
    FAILS(lseg_text(NULL, some, 3, vectors[0]), LSEG_INVALID, "engine is NULL");
    FAILS(lseg_text(engine, NULL, 3, vectors[0]), LSEG_INVALID, "words is NULL");
    FAILS(lseg_text(engine, some, 3, NULL), LSEG_INVALID, "vectors is NULL");
    FAILS(lseg_text(engine, NULL, 0, NULL), LSEG_INPUT, "label");

    WORKS(lseg_set_templates(engine, templates, 2));
    FAILS(lseg_set_templates(engine, none, 1), LSEG_INPUT, "{}");
    FAILS(lseg_set_templates(NULL, templates, 2), LSEG_INVALID, "engine is NULL");
    FAILS(lseg_set_templates(engine, NULL, 2), LSEG_INVALID, "templates is NULL");
    WORKS(lseg_set_labels(engine, some, 3));
    WORKS(lseg_text(engine, some, 3, vectors[1])); // Of words as they are.
    CHECK(memcmp(vectors[0], vectors[1], 3 * dimension * sizeof(float)) == 0);
    WORKS(lseg_set_templates(engine, NULL, 0));
    WORKS(lseg_set_labels(engine, some, 3));

    const char *device = NULL;
    WORKS(lseg_device(engine, &device));
    CHECK(strncmp(device, "cpu", 3) == 0);
    FAILS(lseg_device(NULL, &device), LSEG_INVALID, "engine is NULL");
    FAILS(lseg_device(engine, NULL), LSEG_INVALID, "device is NULL");
    WORKS(lseg_set_size(engine, "long:64"));
    WORKS(lseg_set_size(engine, "64x96"));
    FAILS(lseg_set_size(engine, "0x64"), LSEG_INPUT, "\"0x64\"");
    FAILS(lseg_set_size(engine, NULL), LSEG_INVALID, "size is NULL");
    FAILS(lseg_set_size(NULL, "64x64"), LSEG_INVALID, "engine is NULL");
}

static void images(lseg_engine *engine) {
    static uint8_t padded[PITCH * HEIGHT];
    static uint16_t other[PIXELS];
    memset(padded, 0xee, sizeof padded);
    for (size_t y = 0; y < HEIGHT; y++) memcpy(padded + y * PITCH, pixels + y * 3 * WIDTH, 3 * WIDTH);
    const lseg_output output = output_of(LSEG_MASK16, mask, sizeof mask);
    const lseg_output another = output_of(LSEG_MASK16, other, sizeof other);
    lseg_image image = rgb_image(WIDTH, HEIGHT, pixels);
    WORKS(lseg_segment(engine, &image, &output, 1));
    size_t seen[3] = {0};
    for (size_t i = 0; i < PIXELS; i++) {
        CHECK(mask[i] < 3);
        seen[mask[i]]++;
    }
    if (getenv("LSEG_TEST_MODEL") == NULL) CHECK(seen[1] > 0 && seen[2] > 0);

    // The same with padded rows, and in a struct that ends before the stream.
    image.plane[0] = padded;
    image.pitch[0] = PITCH;
    WORKS(lseg_segment(engine, &image, &another, 1));
    CHECK(memcmp(mask, other, sizeof mask) == 0);
    memset(other, 0xff, sizeof other);
    image.cuda_stream = &image;
    image.size = offsetof(lseg_image, cuda_stream);
    WORKS(lseg_segment(engine, &image, &another, 1));
    CHECK(memcmp(mask, other, sizeof mask) == 0);

    FAILS(lseg_segment(NULL, &image, &output, 1), LSEG_INVALID, "engine is NULL");
    FAILS(lseg_segment(engine, NULL, &output, 1), LSEG_INVALID, "image is NULL");
    image.size = 12;
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INVALID, "set it to sizeof(lseg_image)");
    image = rgb_image(WIDTH, HEIGHT, pixels);
    image.format = 15;
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INVALID, "image.format is 15: expected one of enum lseg_format");
    image.format = INT32_MIN;
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INVALID, "image.format");
    image = rgb_image(WIDTH, HEIGHT, pixels);
    image.memory = 2;
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INVALID, "image.memory is 2");
    image = rgb_image(WIDTH, HEIGHT, NULL);
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INVALID, "image.plane[0] is NULL");
    image = rgb_image(WIDTH, HEIGHT, pixels);
    image.format = LSEG_FORMAT_NV12;
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INVALID, "image.plane[1] is NULL: nv12 has 2 planes");
    image = rgb_image(WIDTH, HEIGHT, pixels);
    image.pitch[0] = 3 * WIDTH - 1;
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INPUT, "239 bytes from row to row");
    image.pitch[0] = SIZE_MAX / 2;
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INVALID, "larger than memory");
    image = rgb_image(0, HEIGHT, pixels);
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INPUT, "at least one");
    image = rgb_image(UINT32_MAX, UINT32_MAX, pixels);
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INVALID, "larger than memory");
    image = rgb_image(WIDTH, HEIGHT, pixels);
    image.memory = LSEG_MEMORY_CUDA;
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_DEVICE, "");

    // Grey in three formats, and what is no number.
    static uint8_t grey[PIXELS], nv12[2][PIXELS];
    static float planes[3][PIXELS];
    for (size_t i = 0; i < PIXELS; i++) {
        grey[i] = pixels[3 * i];
        for (size_t c = 0; c < 3; c++) planes[c][i] = (float)grey[i] / 255;
    }
    memcpy(nv12[0], grey, PIXELS);
    memset(nv12[1], 128, PIXELS);
    image = rgb_image(WIDTH, HEIGHT, grey);
    image.format = LSEG_FORMAT_MONO8;
    WORKS(lseg_segment(engine, &image, &output, 1));
    image.format = LSEG_FORMAT_NV12_FULL;
    image.plane[0] = nv12[0];
    image.plane[1] = nv12[1];
    WORKS(lseg_segment(engine, &image, &another, 1));
    CHECK(memcmp(mask, other, sizeof mask) == 0);
    image.format = LSEG_FORMAT_RGB_F32;
    for (size_t c = 0; c < 3; c++) image.plane[c] = planes[c];
    WORKS(lseg_segment(engine, &image, &another, 1));
    size_t same = 0;
    for (size_t i = 0; i < PIXELS; i++) same += mask[i] == other[i];
    CHECK(same >= PIXELS - PIXELS / 100);
    for (size_t i = 0; i < PIXELS; i++) planes[1][i] = NAN;
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_NOT_FINITE, "");
}

// Rows of an output that is asked for with a pitch are those without.
static void with_a_pitch(lseg_engine *engine, int32_t kind, size_t rows_and_values[2], size_t element) {
    const lseg_image image = rgb_image(WIDTH, HEIGHT, pixels);
    lseg_output tight = output_of(kind, NULL, 0);
    WORKS(lseg_output_bytes(engine, &image, &tight));
    const size_t rows = rows_and_values[0], row = rows_and_values[1] * element, pitch = row + 24;
    CHECK(tight.bytes == rows * row);
    lseg_output loose = tight;
    loose.pitch = pitch;
    WORKS(lseg_output_bytes(engine, &image, &loose));
    CHECK(loose.bytes == rows * pitch - 24);
    uint8_t *both[2] = {calloc(tight.bytes, 1), calloc(loose.bytes + 1, 1)};
    CHECK(both[0] != NULL && both[1] != NULL);
    memset(both[1], 0xa5, loose.bytes + 1);
    tight.data = both[0];
    loose.data = both[1];
    WORKS(lseg_segment(engine, &image, &tight, 1));
    WORKS(lseg_segment(engine, &image, &loose, 1));
    for (size_t y = 0; y < rows; y++) {
        CHECK(memcmp(both[0] + y * row, both[1] + y * pitch, row) == 0);
        for (size_t i = row; i < pitch && y * pitch + i < loose.bytes; i++) CHECK(both[1][y * pitch + i] == 0xa5);
    }
    CHECK(both[1][loose.bytes] == 0xa5);
    loose.pitch = row - 1;
    FAILS(lseg_segment(engine, &image, &loose, 1), LSEG_INVALID, "pitch");
    free(both[0]);
    free(both[1]);
}

static void outputs(lseg_engine *engine) {
    static float best[PIXELS];
    static uint8_t overlay[2][3 * PIXELS];
    size_t dimension = 0;
    const lseg_image image = rgb_image(WIDTH, HEIGHT, pixels);
    lseg_image bare = image;
    bare.plane[0] = NULL;
    WORKS(lseg_dimension(engine, &dimension));

    lseg_output output = output_of(LSEG_SCORES, NULL, 0);
    WORKS(lseg_output_bytes(engine, &bare, &output));
    CHECK(output.bytes == 3 * 64 * 96 * 4 && output.shape[0] == 3 && output.shape[1] == 64 && output.shape[2] == 96);
    output = output_of(LSEG_OVERLAY, NULL, 0);
    WORKS(lseg_output_bytes(engine, &bare, &output));
    CHECK(output.bytes == 3 * PIXELS && output.shape[0] == HEIGHT && output.shape[1] == WIDTH && output.shape[2] == 3);
    // A struct that ends before the shape gets the bytes alone.
    output.bytes = 0;
    output.shape[0] = 7;
    output.size = offsetof(lseg_output, shape);
    WORKS(lseg_output_bytes(engine, &bare, &output));
    CHECK(output.bytes == 3 * PIXELS && output.shape[0] == 7);
    FAILS(lseg_output_bytes(NULL, &image, &output), LSEG_INVALID, "engine is NULL");
    FAILS(lseg_output_bytes(engine, NULL, &output), LSEG_INVALID, "image is NULL");
    FAILS(lseg_output_bytes(engine, &image, NULL), LSEG_INVALID, "output is NULL");
    bare.width = 0;
    FAILS(lseg_output_bytes(engine, &bare, &output), LSEG_INPUT, "at least one");

    size_t scores[2] = {3 * 64, 96}, pictures[2] = {HEIGHT, WIDTH}, colours[2] = {HEIGHT, 3 * WIDTH};
    size_t embeddings[2] = {32, 48 * dimension};
    with_a_pitch(engine, LSEG_MASK8, pictures, 1);
    with_a_pitch(engine, LSEG_MASK16, pictures, 2);
    with_a_pitch(engine, LSEG_CONFIDENCE, pictures, 1);
    with_a_pitch(engine, LSEG_BEST, pictures, 4);
    with_a_pitch(engine, LSEG_OVERLAY, colours, 1);
    with_a_pitch(engine, LSEG_SCORES, scores, 4);
    with_a_pitch(engine, LSEG_PROBABILITIES, scores, 4);
    with_a_pitch(engine, LSEG_EMBEDDING_F32, embeddings, 4);
    with_a_pitch(engine, LSEG_EMBEDDING_F16, embeddings, 2);

    // Several of one pass; colours and weights of one's own.
    static const uint8_t red[] = {255, 0, 0, 255, 0, 0, 255, 0, 0};
    lseg_output several[3] = {output_of(LSEG_MASK16, mask, sizeof mask), output_of(LSEG_OVERLAY, overlay[0], sizeof overlay[0]),
                              output_of(LSEG_BEST, best, sizeof best)};
    several[1].colours = red;
    several[1].alpha = 1;
    WORKS(lseg_segment(engine, &image, several, 3));
    for (size_t i = 0; i < PIXELS; i++) CHECK(memcmp(overlay[0] + 3 * i, red, 3) == 0 && isfinite(best[i]));
    several[1].alpha = 1.5;
    FAILS(lseg_segment(engine, &image, several, 3), LSEG_INVALID, "alpha is 1.5");
    several[1].alpha = NAN;
    FAILS(lseg_segment(engine, &image, several, 3), LSEG_INVALID, "alpha");
    // Structs of an older program, one behind the other.
    enum { OLDER = offsetof(lseg_output, colours) };
    _Alignas(8) uint8_t older[2 * OLDER];
    output = output_of(LSEG_MASK16, mask, sizeof mask);
    output.size = OLDER;
    memcpy(older, &output, OLDER);
    output = output_of(LSEG_BEST, best, sizeof best);
    output.size = OLDER;
    memcpy(older + OLDER, &output, OLDER);
    memset(best, 0, sizeof best);
    WORKS(lseg_segment(engine, &image, (const lseg_output *)(const void *)older, 2));
    CHECK(best[PIXELS - 1] != 0);

    several[1] = output_of(LSEG_OVERLAY, overlay[1], sizeof overlay[1]);
    several[2].kind = LSEG_MASK16;
    FAILS(lseg_segment(engine, &image, several, 3), LSEG_INVALID, "outputs[2]: LSEG_MASK16 is asked for twice");
    several[2].size = OLDER;
    FAILS(lseg_segment(engine, &image, several, 3), LSEG_INVALID, "outputs[2].size");
    FAILS(lseg_segment(engine, &image, several, 0), LSEG_INVALID, "0 outputs");
    FAILS(lseg_segment(engine, &image, several, SIZE_MAX), LSEG_INVALID, "outputs: expected 1 to");
    FAILS(lseg_segment(engine, &image, NULL, 1), LSEG_INVALID, "outputs is NULL");
    several[1].kind = -1;
    FAILS(lseg_segment(engine, &image, several, 2), LSEG_INVALID, "outputs[1].kind is -1");
    output = output_of(LSEG_MASK16, NULL, sizeof mask);
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INVALID, "the data of LSEG_MASK16 is NULL");
    output = output_of(LSEG_MASK16, mask, sizeof mask - 1);
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INVALID, "takes 9600");
    output.pitch = SIZE_MAX;
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INVALID, "larger than memory");
}

// Bytes and words of the same mask; what is not sure enough has no label.
static void thresholds(lseg_engine *engine) {
    static uint8_t bytes[PIXELS], confidence[PIXELS];
    const lseg_image image = rgb_image(WIDTH, HEIGHT, pixels);
    const lseg_output all[3] = {output_of(LSEG_MASK8, bytes, sizeof bytes), output_of(LSEG_MASK16, mask, sizeof mask),
                                output_of(LSEG_CONFIDENCE, confidence, sizeof confidence)};
    const double levels[] = {0, 0.5, 1};
    for (size_t level = 0; level < 3; level++) {
        WORKS(lseg_set_threshold(engine, levels[level]));
        WORKS(lseg_segment(engine, &image, all, 3));
        for (size_t i = 0; i < PIXELS; i++) {
            CHECK(mask[i] == (bytes[i] == 255 ? 65535 : bytes[i]));
            if (bytes[i] == 255) CHECK(confidence[i] <= 255 * levels[level] + 0.5);
            else CHECK(confidence[i] >= 255 * levels[level] - 0.5);
        }
    }
    FAILS(lseg_set_threshold(engine, 1.25), LSEG_INVALID, "threshold is 1.25");
    FAILS(lseg_set_threshold(engine, NAN), LSEG_INVALID, "threshold is NaN");
    FAILS(lseg_set_threshold(NULL, 0), LSEG_INVALID, "engine is NULL");
    WORKS(lseg_set_threshold(engine, 0));
}

// Of the same vectors: planes, unit length, other sizes.
static void forms_of_embeddings(lseg_engine *engine) {
    static float pixels_first[32 * 48 * 512], planes_first[32 * 48 * 512];
    size_t dimension = 0;
    const lseg_image image = rgb_image(WIDTH, HEIGHT, pixels);
    WORKS(lseg_dimension(engine, &dimension));
    CHECK(dimension <= 512);
    lseg_output output = output_of(LSEG_EMBEDDING_F32, pixels_first, sizeof pixels_first);
    output.normalise = 1;
    WORKS(lseg_segment(engine, &image, &output, 1));
    output.data = planes_first;
    output.layout = LSEG_LAYOUT_CHW;
    WORKS(lseg_segment(engine, &image, &output, 1));
    for (size_t i = 0; i < 32 * 48; i++) {
        double squares = 0;
        for (size_t c = 0; c < dimension; c++) {
            CHECK(pixels_first[i * dimension + c] == planes_first[c * 32 * 48 + i]);
            squares += pow((double)pixels_first[i * dimension + c], 2);
        }
        CHECK(fabs(squares - 1) < 1e-4);
    }
    output.at = LSEG_AT_PHOTO;
    WORKS(lseg_output_bytes(engine, &image, &output));
    CHECK(output.shape[0] == dimension && output.shape[1] == HEIGHT && output.shape[2] == WIDTH);
    output.at = LSEG_AT_FULL;
    output.layout = LSEG_LAYOUT_HWC;
    WORKS(lseg_output_bytes(engine, &image, &output));
    CHECK(output.bytes == 64 * 96 * dimension * 4);
    void *full = malloc(output.bytes);
    CHECK(full != NULL);
    output.data = full;
    WORKS(lseg_segment(engine, &image, &output, 1));
    free(full);
    output.at = 3;
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INVALID, "outputs[0].at is 3");
    output.at = 0;
    output.layout = 2;
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INVALID, "outputs[0].layout is 2");
}

// What only a GPU has.
static void tensors(lseg_engine *engine) {
    void *stream = NULL;
    lseg_tensor *tensor = NULL;
    const lseg_image image = rgb_image(WIDTH, HEIGHT, pixels);
    const lseg_output output = output_of(LSEG_MASK16, mask, sizeof mask);
    FAILS(lseg_cuda_stream(engine, &stream), LSEG_DEVICE, "this engine is on cpu");
    FAILS(lseg_cuda_stream(NULL, &stream), LSEG_INVALID, "engine is NULL");
    FAILS(lseg_segment_on_device(engine, &image, &output, 1, &tensor), LSEG_DEVICE, "cpu");
    FAILS(lseg_segment_on_device(NULL, &image, &output, 1, &tensor), LSEG_INVALID, "engine is NULL");
    FAILS(lseg_segment_on_device(engine, NULL, &output, 1, &tensor), LSEG_INVALID, "image is NULL");
    FAILS(lseg_segment_on_device(engine, &image, NULL, 1, &tensor), LSEG_INVALID, "outputs is NULL");
    WORKS(lseg_set_device_places(engine, 1));
    FAILS(lseg_set_device_places(NULL, 1), LSEG_INVALID, "engine is NULL");
    FAILS(lseg_tensor_wait(NULL), LSEG_INVALID, "tensor is NULL");
    FAILS(lseg_tensor_follow(NULL, NULL), LSEG_INVALID, "tensor is NULL");
    FAILS(lseg_tensor_read(NULL, mask, 1), LSEG_INVALID, "tensor is NULL");
    lseg_tensor_release(NULL);
}

static void points(lseg_engine *engine) {
    static float vectors[2 * 4096];
    size_t dimension = 0;
    WORKS(lseg_dimension(engine, &dimension));
    const lseg_image image = rgb_image(WIDTH, HEIGHT, pixels);
    const float inside[] = {0, 0, 79.4F, 59.4F}, outside[] = {0, 0, 80, 0};
    WORKS(lseg_embed_at(engine, &image, inside, 2, vectors));
    CHECK(memcmp(vectors, vectors + dimension, dimension * sizeof(float)) != 0);
    FAILS(lseg_embed_at(engine, &image, outside, 2, vectors), LSEG_INPUT, "point 1");
    FAILS(lseg_embed_at(engine, &image, inside, 0, vectors), LSEG_INPUT, "no points");
    FAILS(lseg_embed_at(NULL, &image, inside, 2, vectors), LSEG_INVALID, "engine is NULL");
    FAILS(lseg_embed_at(engine, NULL, inside, 2, vectors), LSEG_INVALID, "image is NULL");
    FAILS(lseg_embed_at(engine, &image, NULL, 2, vectors), LSEG_INVALID, "points is NULL");
    FAILS(lseg_embed_at(engine, &image, inside, 2, NULL), LSEG_INVALID, "vectors is NULL");
    FAILS(lseg_embed_at(engine, &image, inside, SIZE_MAX, vectors), LSEG_INVALID, "more than memory has");
}

int main(void) {
    paint(pixels, WIDTH, HEIGHT);
    about_the_library();
    opening();
    structs_of_other_versions();

    const lseg_options options = cpu_options();
    lseg_engine *engine = NULL;
    WORKS(lseg_open(&options, &engine));
    const lseg_image image = rgb_image(WIDTH, HEIGHT, pixels);
    lseg_output output = output_of(LSEG_MASK16, mask, sizeof mask);
    FAILS(lseg_segment(engine, &image, &output, 1), LSEG_INPUT, "no labels are set");
    FAILS(lseg_output_bytes(engine, &image, &output), LSEG_INPUT, "no labels are set");
    words(engine);
    images(engine);
    outputs(engine);
    thresholds(engine);
    forms_of_embeddings(engine);
    tensors(engine);
    points(engine);
    lseg_close(engine);
    puts("api: passed");
    return 0;
}
