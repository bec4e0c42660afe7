// Images from a GPU's memory and results in it, between the engine and a program with memory and a stream of its own in the primary
// context. It asks the driver itself, as CUDA's runtime, PyTorch and NITROS do; the virtual GPU is such a driver. `cuda lost` is for
// a driver that was told to fail.

#include "check.h"

#include <dlfcn.h>

enum { WIDTH = 41, HEIGHT = 27, PITCH = 256, PIXELS = WIDTH * HEIGHT, FRAMES = 6 };

static void *driver;

static void *found(const char *name) {
    void *function = dlsym(driver, name);
    if (function == NULL) fprintf(stderr, "the driver has no %s\n", name);
    CHECK(function != NULL);
    return function;
}

// A call of the driver's by its name and the types of its arguments.
#define CALL(name, types, ...) \
    do { \
        int(*call) types; \
        void *address = found(name); \
        memcpy(&call, &address, sizeof call); \
        CHECK(call(__VA_ARGS__) == 0); \
    } while (0)

typedef unsigned long long address_t;

static address_t memory(size_t bytes) {
    address_t made = 0;
    CALL("cuMemAlloc_v2", (address_t *, size_t), &made, bytes);
    return made;
}

static void *at(address_t address) {
    void *pointer = NULL;
    memcpy(&pointer, &address, sizeof address);
    return pointer;
}

static uint8_t padded[FRAMES][PITCH * HEIGHT];
static uint8_t expected[FRAMES][PIXELS], sure[FRAMES][PIXELS], mask[PIXELS];

static lseg_image host_image(int frame) {
    lseg_image image = rgb_image(WIDTH, HEIGHT, padded[frame]);
    image.pitch[0] = PITCH;
    return image;
}

static void pictures(void) {
    static uint8_t pixels[3 * PIXELS];
    for (size_t frame = 0; frame < FRAMES; frame++) {
        for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * (2 * frame + 3) * 7919 % 251);
        memset(padded[frame], 0xee, sizeof padded[frame]);
        for (size_t y = 0; y < HEIGHT; y++) memcpy(padded[frame] + y * PITCH, pixels + y * 3 * WIDTH, 3 * WIDTH);
    }
}

static lseg_engine *open_cuda(void) {
    static const char *const labels[] = {"cat", "a wall", "other"};
    lseg_options options = cpu_options();
    lseg_engine *engine = NULL;
    options.device = "cuda";
    WORKS(lseg_open(&options, &engine));
    WORKS(lseg_set_labels(engine, labels, 3));
    WORKS(lseg_set_size(engine, "32x64"));
    return engine;
}

// A stream's answers on the GPU, and on the host.
static void streams(lseg_engine *engine) {
    const lseg_output outputs[2] = {output_of(LSEG_MASK8, mask, sizeof mask), output_of(LSEG_CONFIDENCE, NULL, 0)};
    lseg_stream_options options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.policy = LSEG_EVERY;
    for (options.on_device = 0; options.on_device < 2; options.on_device++) {
        lseg_stream *stream = NULL;
        WORKS(lseg_stream_start(engine, &options, outputs, 2, &stream));
        for (int frame = 0; frame < 2 * FRAMES; frame++) {
            const lseg_image image = host_image(frame % FRAMES);
            const char *const *labels = NULL;
            size_t count = 0;
            lseg_answer *answer = NULL;
            lseg_tensor *tensor = NULL;
            WORKS(lseg_stream_push(stream, &image, frame, NULL));
            WORKS(lseg_stream_recv(stream, 600000, &answer));
            WORKS(lseg_answer_labels(answer, &labels, &count));
            CHECK(count == 3 && strcmp(labels[1], "a wall") == 0);
            if (options.on_device) {
                FAILS(lseg_answer_read(answer, outputs, 1), LSEG_INVALID, "ask lseg_answer_tensor");
                WORKS(lseg_answer_tensor(answer, LSEG_CONFIDENCE, &tensor));
                WORKS(lseg_tensor_read(tensor, mask, sizeof mask));
                CHECK(memcmp(mask, sure[frame % FRAMES], PIXELS) == 0);
                lseg_tensor_release(tensor);
                WORKS(lseg_answer_tensor(answer, LSEG_MASK8, &tensor));
                lseg_answer_release(answer); // The tensor outlives it.
                WORKS(lseg_tensor_read(tensor, mask, sizeof mask));
                lseg_tensor_release(tensor);
            } else {
                WORKS(lseg_answer_read(answer, outputs, 1));
                lseg_answer_release(answer);
            }
            CHECK(memcmp(mask, expected[frame % FRAMES], PIXELS) == 0);
        }
        lseg_stream_free(stream);
    }
}

int main(int count, char **arguments) {
    int device = 0;
    void *context = NULL, *stream = NULL, *ours = NULL;
    pictures();
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    CHECK(driver != NULL);

    if (count == 2 && strcmp(arguments[1], "lost") == 0) {
        lseg_engine *engine = open_cuda();
        const lseg_image image = host_image(0);
        const lseg_output output = output_of(LSEG_MASK8, mask, sizeof mask);
        lseg_status status = LSEG_OK;
        for (int frame = 0; frame < FRAMES && status == LSEG_OK; frame++) status = lseg_segment(engine, &image, &output, 1);
        CHECK(status == LSEG_LOST && strstr(lseg_error(), "CUDA error 700") != NULL);
        lseg_close(engine);
        puts("lost: passed");
        return 0;
    }

    CALL("cuInit", (unsigned), 0);
    CALL("cuDeviceGet", (int *, int), &device, 0);
    CALL("cuDevicePrimaryCtxRetain", (void **, int), &context, device);
    CALL("cuCtxPushCurrent_v2", (void *), context);
    CALL("cuStreamCreate", (void **, unsigned), &stream, 1);
    const address_t photo = memory(PITCH * HEIGHT), taken = memory(FRAMES * PIXELS);

    // What the host's path makes of each picture.
    lseg_engine *engine = open_cuda();
    lseg_output outputs[2] = {output_of(LSEG_MASK8, NULL, PIXELS), output_of(LSEG_CONFIDENCE, NULL, PIXELS)};
    for (int frame = 0; frame < FRAMES; frame++) {
        const lseg_image image = host_image(frame);
        outputs[0].data = expected[frame];
        outputs[1].data = sure[frame];
        WORKS(lseg_segment(engine, &image, outputs, 2));
        CHECK(frame == 0 || memcmp(expected[frame], expected[frame - 1], PIXELS) != 0);
    }
    WORKS(lseg_cuda_stream(engine, &ours));
    CHECK(ours != NULL && ours != stream);

    // From a stream of ours to the host: the picture is queued there before the call, and what overwrites it just behind.
    lseg_image image = host_image(0);
    image.memory = LSEG_MEMORY_CUDA;
    image.plane[0] = at(photo);
    image.cuda_stream = stream;
    for (int frame = 0; frame < FRAMES; frame++) {
        const lseg_output output = output_of(LSEG_MASK8, mask, sizeof mask);
        CALL("cuMemcpyHtoDAsync_v2", (address_t, const void *, size_t, void *), photo, padded[frame], PITCH * HEIGHT, stream);
        WORKS(lseg_segment(engine, &image, &output, 1));
        CALL("cuMemsetD8Async", (address_t, unsigned char, size_t, void *), photo, 7, PITCH * HEIGHT, stream);
        CHECK(memcmp(mask, expected[frame], PIXELS) == 0);
    }

    // And into memory of ours, on that stream, with no host in between.
    lseg_tensor *tensors[2] = {NULL, NULL};
    for (int frame = 0; frame < FRAMES; frame++) {
        CALL("cuMemcpyHtoDAsync_v2", (address_t, const void *, size_t, void *), photo, padded[frame], PITCH * HEIGHT, stream);
        WORKS(lseg_segment_on_device(engine, &image, outputs, 2, tensors));
        CALL("cuMemsetD8Async", (address_t, unsigned char, size_t, void *), photo, 9, PITCH * HEIGHT, stream);
        lseg_tensor_info info;
        memset(&info, 0, sizeof info);
        info.size = sizeof info;
        WORKS(lseg_tensor_describe(tensors[0], &info));
        CHECK(info.bytes == PIXELS && info.element == LSEG_ELEMENT_U8 && info.gpu == 0);
        CHECK(info.shape[0] == 1 && info.shape[1] == HEIGHT && info.shape[2] == WIDTH && info.shape[3] == 1);
        address_t from = 0;
        memcpy(&from, &info.address, sizeof info.address);
        WORKS(lseg_tensor_follow(tensors[0], stream));
        CALL("cuMemcpyDtoDAsync_v2", (address_t, address_t, size_t, void *), taken + (address_t)frame * PIXELS, from, PIXELS, stream);
        lseg_tensor_release(tensors[0]);
        WORKS(lseg_tensor_wait(tensors[1]));
        WORKS(lseg_tensor_read(tensors[1], mask, sizeof mask));
        CHECK(memcmp(mask, sure[frame], PIXELS) == 0);
        lseg_tensor_release(tensors[1]);
    }
    CALL("cuStreamSynchronize", (void *), stream);
    for (int frame = 0; frame < FRAMES; frame++) {
        CALL("cuMemcpyDtoH_v2", (void *, address_t, size_t), mask, taken + (address_t)frame * PIXELS, PIXELS);
        CHECK(memcmp(mask, expected[frame], PIXELS) == 0);
    }

    streams(engine);

    // Places are held by tensors, and are counted.
    const lseg_image host = host_image(1);
    lseg_tensor *held[3] = {NULL, NULL, NULL};
    WORKS(lseg_segment_on_device(engine, &host, outputs, 1, &held[0]));
    WORKS(lseg_segment_on_device(engine, &image, outputs, 1, &held[1]));
    held[2] = held[0];
    FAILS(lseg_segment_on_device(engine, &host, outputs, 1, &held[2]), LSEG_BUSY, "");
    CHECK(held[2] == NULL);
    WORKS(lseg_set_device_places(engine, 3));
    WORKS(lseg_segment_on_device(engine, &host, outputs, 1, &held[2]));
    FAILS(lseg_set_device_places(engine, 0), LSEG_INVALID, "places is 0");

    // Every wrong argument.
    lseg_tensor_info info;
    memset(&info, 0, sizeof info);
    FAILS(lseg_tensor_describe(held[0], &info), LSEG_INVALID, "set it to sizeof(lseg_tensor_info)");
    info.size = offsetof(lseg_tensor_info, bytes);
    WORKS(lseg_tensor_describe(held[0], &info));
    CHECK(info.address != NULL && info.bytes == 0);
    FAILS(lseg_tensor_describe(held[0], NULL), LSEG_INVALID, "info is NULL");
    FAILS(lseg_tensor_describe(NULL, &info), LSEG_INVALID, "tensor is NULL");
    FAILS(lseg_tensor_read(held[0], mask, sizeof mask - 1), LSEG_INVALID, "bytes is 1106: the tensor has 1107");
    FAILS(lseg_tensor_read(held[0], NULL, sizeof mask), LSEG_INVALID, "data is NULL");
    FAILS(lseg_cuda_stream(engine, NULL), LSEG_INVALID, "stream is NULL");
    FAILS(lseg_segment_on_device(engine, &host, outputs, 1, NULL), LSEG_INVALID, "tensors is NULL");

    // A tensor outlives its engine.
    lseg_close(engine);
    WORKS(lseg_tensor_read(held[2], mask, sizeof mask));
    CHECK(memcmp(mask, expected[1], PIXELS) == 0);
    for (int i = 0; i < 3; i++) lseg_tensor_release(held[i]);

    CALL("cuMemFree_v2", (address_t), photo);
    CALL("cuMemFree_v2", (address_t), taken);
    CALL("cuStreamDestroy_v2", (void *), stream);
    CALL("cuDevicePrimaryCtxRelease_v2", (int), device);
    puts("cuda: passed");
    return 0;
}
