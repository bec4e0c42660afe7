// Frames in a loop, between an opening and a closing, in four rounds: frames FRAMES. From the second frame on nothing is allocated
// but the thread pool's own block of 1.5 KB every 63 frames; and under valgrind an engine leaves nothing behind, once the second one
// has gone. (Of the first two, records of 4.4 KB for each thread that has ended stay: crossbeam-epoch, which is in the thread pool,
// frees them when later threads come by.)

#define _POSIX_C_SOURCE 200809L // nanosleep

#include "check.h"

#include <stdatomic.h>
#include <time.h>

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif

enum { WIDTH = 32, HEIGHT = 32, PITCH = 3 * WIDTH + 32 };

#ifdef COUNT_ALLOCATIONS
// The program's own functions stand before the C library's, for the shared library too.
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
static atomic_long allocations;

void *malloc(size_t bytes) {
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes) {
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes) {
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(old, bytes);
}
#endif

static void round_of_frames(int frames) {
    static uint8_t pixels[3 * WIDTH * HEIGHT], padded[PITCH * HEIGHT], overlay[PITCH * HEIGHT];
    static uint16_t mask[WIDTH * HEIGHT];
    static float best[WIDTH * HEIGHT];
    paint(pixels, WIDTH, HEIGHT);
    for (size_t y = 0; y < HEIGHT; y++) memcpy(padded + y * PITCH, pixels + y * 3 * WIDTH, 3 * WIDTH);

    lseg_engine *engine = open_small();
    WORKS(lseg_set_size(engine, "32x32"));
    lseg_image image = rgb_image(WIDTH, HEIGHT, padded);
    image.pitch[0] = PITCH;
    lseg_output outputs[3] = {
        output_of(LSEG_MASK16, mask, sizeof mask),
        output_of(LSEG_OVERLAY, overlay, sizeof overlay),
        output_of(LSEG_BEST, best, sizeof best),
    };
    outputs[1].pitch = PITCH;
#ifdef COUNT_ALLOCATIONS
    long later = 0;
#endif
    for (int frame = 0; frame < frames; frame++) {
#ifdef COUNT_ALLOCATIONS
        const long before = atomic_load(&allocations);
#endif
        WORKS(lseg_segment(engine, &image, outputs, 3));
#ifdef COUNT_ALLOCATIONS
        const long made = atomic_load(&allocations) - before;
        CHECK(frame > 0 || made > 0); // They are counted at all.
        later += frame > 0 ? made : 0;
        CHECK(later <= 1 + frames / 63);
#endif
    }
    lseg_close(engine);
}

#ifdef VALGRIND_COUNT_LEAKS
// All that is still allocated, whoever points to it; nothing where valgrind does not run.
static size_t left_behind(void) {
    if (!RUNNING_ON_VALGRIND) return 0;
    // An engine's threads end some time after it.
    const struct timespec while_they_end = {2, 0};
    nanosleep(&while_they_end, NULL);
    size_t lost = 0, dubious = 0, reachable = 0, suppressed = 0;
    VALGRIND_DO_LEAK_CHECK;
    VALGRIND_COUNT_LEAKS(lost, dubious, reachable, suppressed);
    CHECK(lost + suppressed == 0);
    return dubious + reachable;
}
#endif

int main(int count, char **arguments) {
    const int frames = count == 2 ? atoi(arguments[1]) : 0;
    CHECK(frames > 0);
    round_of_frames(frames);
    round_of_frames(frames);
#ifdef VALGRIND_COUNT_LEAKS
    const size_t before = left_behind();
#endif
    round_of_frames(frames);
    round_of_frames(frames);
#ifdef VALGRIND_COUNT_LEAKS
    const size_t after = left_behind();
    printf("%zu bytes are left after two engines, %zu after four\n", before, after);
    CHECK(!RUNNING_ON_VALGRIND || (before > 0 && after <= before));
#endif
    puts("frames: passed");
    return 0;
}
