// Two threads with an engine each give what one gives; two with the same engine hear that it is busy.

#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

enum { WIDTH = 80, HEIGHT = 60, FRAMES = 5 };

static uint8_t pixels[3 * WIDTH * HEIGHT];

static void *with_an_engine_of_its_own(void *mask) {
    lseg_engine *engine = open_small();
    const lseg_image image = rgb_image(WIDTH, HEIGHT, pixels);
    const lseg_output output = output_of(LSEG_MASK16, mask, 2 * WIDTH * HEIGHT);
    for (int frame = 0; frame < FRAMES; frame++) WORKS(lseg_segment(engine, &image, &output, 1));
    // A failure of this thread alone.
    FAILS(lseg_set_size(engine, "small"), LSEG_INPUT, "\"small\"");
    lseg_close(engine);
    return NULL;
}

static atomic_int stop;

static void *one_frame_after_the_other(void *engine) {
    static uint16_t mask[WIDTH * HEIGHT];
    const lseg_image image = rgb_image(WIDTH, HEIGHT, pixels);
    const lseg_output output = output_of(LSEG_MASK16, mask, sizeof mask);
    while (!atomic_load(&stop)) {
        const lseg_status status = lseg_segment(engine, &image, &output, 1);
        CHECK(status == LSEG_OK || status == LSEG_BUSY);
    }
    return NULL;
}

int main(void) {
    static uint16_t masks[2][WIDTH * HEIGHT], alone[WIDTH * HEIGHT];
    pthread_t threads[2], runner;
    paint(pixels, WIDTH, HEIGHT);

    for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, with_an_engine_of_its_own, masks[i]) == 0);
    for (int i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(strcmp(lseg_error(), "") == 0);
    with_an_engine_of_its_own(alone);
    for (int i = 0; i < 2; i++) CHECK(memcmp(masks[i], alone, sizeof alone) == 0);

    lseg_engine *engine = open_small();
    size_t dimension = 0;
    CHECK(pthread_create(&runner, NULL, one_frame_after_the_other, engine) == 0);
    while (lseg_dimension(engine, &dimension) != LSEG_BUSY) continue;
    CHECK(strstr(lseg_error(), "another thread is inside this engine") != NULL);
    atomic_store(&stop, 1);
    CHECK(pthread_join(runner, NULL) == 0);
    WORKS(lseg_dimension(engine, &dimension));
    lseg_close(engine);
    puts("threads: passed");
    return 0;
}
