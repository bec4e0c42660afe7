// A stream with a thread that pushes, one that takes and one that changes the words: every answer is what lseg_segment gives, every frame
// is counted. And every error, every NULL: stream [FRAMES].

#define _POSIX_C_SOURCE 200809L // nanosleep

#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { WIDTH = 80, HEIGHT = 60, PIXELS = WIDTH * HEIGHT, PICTURES = 3, LISTS = 2 };

static const char *const lists[LISTS][3] = {{"red ball", "grass", "sky"}, {"sea", "a dog", NULL}};
static const size_t counts[LISTS] = {3, 2};

static int64_t all = 240;

static uint8_t pictures[PICTURES][3 * PIXELS];
static uint16_t expected[LISTS][PICTURES][PIXELS];

static lseg_stream_options stream_options(int32_t policy) {
    lseg_stream_options options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.policy = policy;
    return options;
}

static void nap(void) {
    const struct timespec time = {0, 200000};
    nanosleep(&time, NULL);
}

static lseg_stats stats_of(const lseg_stream *stream) {
    lseg_stats stats;
    memset(&stats, 0, sizeof stats);
    stats.size = sizeof stats;
    WORKS(lseg_stream_stats(stream, &stats));
    CHECK(stats.pushed == stats.done + stats.replaced + stats.stale + stats.failed + stats.in_flight);
    return stats;
}

static lseg_answer_info info_of(const lseg_answer *answer) {
    lseg_answer_info info;
    memset(&info, 0, sizeof info);
    info.size = sizeof info;
    WORKS(lseg_answer_describe(answer, &info));
    CHECK(info.age_ns == info.waited_ns + info.computed_ns);
    return info;
}

// What the engine makes of each picture about each list.
static void expect(lseg_engine *engine) {
    for (size_t list = 0; list < LISTS; list++) {
        WORKS(lseg_set_labels(engine, lists[list], counts[list]));
        for (size_t which = 0; which < PICTURES; which++) {
            const lseg_image image = rgb_image(WIDTH, HEIGHT, pictures[which]);
            const lseg_output output = output_of(LSEG_MASK16, expected[list][which], sizeof expected[list][which]);
            WORKS(lseg_segment(engine, &image, &output, 1));
        }
    }
    WORKS(lseg_set_labels(engine, lists[0], counts[0]));
}

static atomic_int is_done;

static void *push_all(void *stream) {
    for (int64_t frame = 0; frame < all; frame++) {
        const lseg_image image = rgb_image(WIDTH, HEIGHT, pictures[frame % PICTURES]);
        uint64_t sequence = UINT64_MAX;
        lseg_status status = LSEG_FULL;
        while ((status = lseg_stream_push(stream, &image, frame, frame % 2 ? &sequence : NULL)) == LSEG_FULL) nap();
        CHECK(status == LSEG_OK && (frame % 2 == 0 || sequence == (uint64_t)frame));
    }
    WORKS(lseg_stream_close_input(stream));
    CHECK(strcmp(lseg_error(), "") == 0); // A full queue is no failure.
    return NULL;
}

// The list of an odd epoch is the first, of an even the second.
static void *change_words(void *stream) {
    uint64_t epoch = 1;
    while (!atomic_load(&is_done)) {
        const uint64_t before = epoch;
        const size_t list = before % LISTS;
        WORKS(lseg_stream_set_labels(stream, lists[list], counts[list], &epoch));
        CHECK(epoch == before + 1);
        FAILS(lseg_stream_set_labels(stream, lists[0], 0, &epoch), LSEG_INPUT, "no labels");
        CHECK(epoch == before + 1);
        nap();
    }
    return NULL;
}

// Whether the answer is what the engine gives; its list.
static size_t check_answer(const lseg_answer *answer) {
    static uint16_t mask[PIXELS];
    const lseg_answer_info info = info_of(answer);
    const size_t list = (size_t)(info.epoch - 1) % LISTS;
    const char *const *labels = NULL;
    size_t count = 0;
    CHECK(info.status == LSEG_OK && info.sequence == (uint64_t)info.stamp_ns);
    WORKS(lseg_answer_labels(answer, &labels, &count));
    CHECK(count == counts[list]);
    for (size_t i = 0; i < count; i++) CHECK(strcmp(labels[i], lists[list][i]) == 0);
    const lseg_output output = output_of(LSEG_MASK16, mask, sizeof mask);
    WORKS(lseg_answer_read(answer, &output, 1));
    CHECK(memcmp(mask, expected[list][info.stamp_ns % PICTURES], sizeof mask) == 0);
    return list;
}

static void every_frame(lseg_engine *engine) {
    lseg_stream_options options = stream_options(LSEG_EVERY);
    options.queue = 3;
    const lseg_output output = output_of(LSEG_MASK16, NULL, 0);
    lseg_stream *stream = NULL;
    lseg_answer *answer = NULL;
    lseg_status status = LSEG_OK;
    pthread_t pushes, words;
    uint64_t frames = 0;
    size_t seen[LISTS] = {0, 0};
    int32_t is_over = -1;
    WORKS(lseg_stream_start(engine, &options, &output, 1, &stream));
    WORKS(lseg_stream_is_over(stream, &is_over));
    CHECK(is_over == 0);
    CHECK(pthread_create(&pushes, NULL, push_all, stream) == 0);
    CHECK(pthread_create(&words, NULL, change_words, stream) == 0);
    while ((status = lseg_stream_recv(stream, 60000, &answer)) == LSEG_OK) {
        CHECK(info_of(answer).sequence == frames);
        seen[check_answer(answer)]++;
        frames++;
        lseg_answer_release(answer);
    }
    CHECK(status == LSEG_EMPTY && answer == NULL);
    atomic_store(&is_done, 1);
    CHECK(pthread_join(pushes, NULL) == 0 && pthread_join(words, NULL) == 0);
    WORKS(lseg_stream_is_over(stream, &is_over));
    CHECK(is_over == 1 && frames == (uint64_t)all && (all < 100 || (seen[0] > 0 && seen[1] > 0)));
    const lseg_stats stats = stats_of(stream);
    CHECK(stats.pushed == frames && stats.done == frames && stats.unread == 0 && stats.in_flight == 0);
    CHECK(0 < stats.computed_p50_ns && stats.computed_p50_ns <= stats.computed_p99_ns && stats.age_p50_ns <= stats.age_p99_ns);
    CHECK(stats.age_p99_ns <= stats.age_max_ns && stats.jitter_p50_ns <= stats.jitter_p99_ns);
    const lseg_image image = rgb_image(WIDTH, HEIGHT, pictures[0]);
    FAILS(lseg_stream_push(stream, &image, 0, NULL), LSEG_BUSY, "the stream is closed");
    WORKS(lseg_stream_stop(stream));
    lseg_stream_free(stream);
}

// Nobody waits: what is not computed or not taken is counted. The engine may go before its stream, a stream before its answers.
static void the_newest_frame(void) {
    lseg_engine *engine = open_small();
    const lseg_output output = output_of(LSEG_MASK16, NULL, 0);
    lseg_stream *stream = NULL;
    lseg_answer *answer = NULL, *last = NULL;
    uint64_t taken = 0;
    WORKS(lseg_stream_start(engine, NULL, &output, 1, &stream));
    lseg_close(engine);
    CHECK(lseg_stream_poll(stream, &answer) == LSEG_EMPTY && answer == NULL);
    CHECK(lseg_stream_recv(stream, 5, &answer) == LSEG_EMPTY && answer == NULL);
    for (int64_t frame = 0; frame < all; frame++) {
        const lseg_image image = rgb_image(WIDTH, HEIGHT, pictures[frame % PICTURES]);
        WORKS(lseg_stream_push(stream, &image, frame, NULL));
        if (frame % 16 == 0) nap();
    }
    WORKS(lseg_stream_close_input(stream));
    while (lseg_stream_recv(stream, 60000, &answer) == LSEG_OK) {
        check_answer(answer);
        lseg_answer_release(last);
        last = answer;
        taken++;
    }
    const lseg_stats stats = stats_of(stream);
    CHECK(stats.pushed == (uint64_t)all && stats.done + stats.replaced == stats.pushed && stats.done == taken + stats.unread);
    lseg_stream_free(stream);
    CHECK(info_of(last).sequence == stats.pushed - 1);
    check_answer(last);
    lseg_answer_release(last);
}

// A frame of which nothing can be computed says why, and the next one runs.
static void frames_that_fail(void) {
    static uint16_t mask[PIXELS];
    const lseg_options options = cpu_options();
    const lseg_stream_options every = stream_options(LSEG_EVERY);
    const lseg_image image = rgb_image(WIDTH, HEIGHT, pictures[1]);
    const char *const *labels = NULL;
    size_t count = 0;
    lseg_engine *engine = NULL;
    lseg_stream *stream = NULL;
    lseg_answer *answer = NULL;
    lseg_output output = output_of(LSEG_MASK16, mask, sizeof mask);
    WORKS(lseg_open(&options, &engine));
    WORKS(lseg_set_size(engine, "64x64"));
    WORKS(lseg_stream_start(engine, &every, &output, 1, &stream));
    WORKS(lseg_stream_push(stream, &image, 0, NULL));
    WORKS(lseg_stream_recv(stream, 60000, &answer));
    CHECK(info_of(answer).status == LSEG_INPUT && info_of(answer).epoch == 0);
    FAILS(lseg_answer_read(answer, &output, 1), LSEG_INPUT, "no labels are set");
    FAILS(lseg_answer_output_bytes(answer, &output), LSEG_INPUT, "no labels are set");
    FAILS(lseg_answer_labels(answer, &labels, &count), LSEG_INPUT, "no labels are set");
    lseg_answer_release(answer);
    WORKS(lseg_stream_set_labels(stream, lists[0], counts[0], NULL));
    WORKS(lseg_stream_push(stream, &image, 1, NULL));
    WORKS(lseg_stream_recv(stream, 60000, &answer));
    check_answer(answer);
    lseg_answer_release(answer);
    CHECK(stats_of(stream).failed == 1 && stats_of(stream).done == 1);
    lseg_stream_free(stream);
    lseg_close(engine);
}

static void starting(lseg_engine *engine) {
    const lseg_output output = output_of(LSEG_MASK16, NULL, 0);
    const uint32_t cpus[] = {0};
    lseg_stream_options options = stream_options(2);
    lseg_stream *stream = (lseg_stream *)&options;
    FAILS(lseg_stream_start(NULL, NULL, &output, 1, &stream), LSEG_INVALID, "engine is NULL");
    FAILS(lseg_stream_start(engine, NULL, &output, 1, NULL), LSEG_INVALID, "stream is NULL");
    FAILS(lseg_stream_start(engine, NULL, NULL, 1, &stream), LSEG_INVALID, "outputs is NULL");
    CHECK(stream == NULL);
    FAILS(lseg_stream_start(engine, NULL, &output, 0, &stream), LSEG_INVALID, "0 outputs");
    FAILS(lseg_stream_start(engine, &options, &output, 1, &stream), LSEG_INVALID, "options.policy is 2: expected one of enum lseg_policy");
    options = stream_options(LSEG_NEWEST);
    options.wait = 3;
    FAILS(lseg_stream_start(engine, &options, &output, 1, &stream), LSEG_INVALID, "options.wait is 3: expected one of enum lseg_waiting");
    options.wait = LSEG_WAITING_YIELD;
    options.priority = 100;
    FAILS(lseg_stream_start(engine, &options, &output, 1, &stream), LSEG_INVALID, "options.priority is 100");
    options.priority = 0;
    options.cpu_count = 1;
    FAILS(lseg_stream_start(engine, &options, &output, 1, &stream), LSEG_INVALID, "options.cpus is NULL");
    options.on_device = 1;
    options.cpus = cpus;
    FAILS(lseg_stream_start(engine, &options, &output, 1, &stream), LSEG_DEVICE, "results stay on a GPU alone");
    options.size = 3;
    FAILS(lseg_stream_start(engine, &options, &output, 1, &stream), LSEG_INVALID, "set it to sizeof(lseg_stream_options)");

    // What the system refuses is told, or an error.
    const uint32_t none[] = {1023};
    const char *notes = NULL;
    options = stream_options(LSEG_NEWEST);
    options.wait = LSEG_WAITING_SPIN;
    options.no_overlap = 1;
    options.pool = 1;
    options.stale_after_ms = 60000;
    options.cpus = none;
    options.cpu_count = 1;
    WORKS(lseg_stream_start(engine, &options, &output, 1, &stream));
    WORKS(lseg_stream_notes(stream, &notes));
    CHECK(strstr(notes, "no processors [1023]") != NULL);
    FAILS(lseg_stream_notes(stream, NULL), LSEG_INVALID, "notes is NULL");
    FAILS(lseg_stream_notes(NULL, &notes), LSEG_INVALID, "stream is NULL");
    lseg_stream_free(stream);
    options.realtime_required = 1;
    FAILS(lseg_stream_start(engine, &options, &output, 1, &stream), LSEG_DEVICE, "no processors [1023]");
    CHECK(stream == NULL);
    options.cpus = cpus;
    WORKS(lseg_stream_start(engine, &options, &output, 1, &stream));
    WORKS(lseg_stream_notes(stream, &notes));
    CHECK(strcmp(notes, "") == 0);
    lseg_stream_free(stream);
    lseg_stream_free(NULL);
}

static void nulls_of_streams(lseg_stream *stream) {
    lseg_image image = rgb_image(WIDTH, HEIGHT, pictures[0]);
    lseg_answer *answer = NULL;
    lseg_stats stats = stats_of(stream);
    uint64_t number = 7;
    int32_t is_over = 0;
    FAILS(lseg_stream_push(NULL, &image, 0, &number), LSEG_INVALID, "stream is NULL");
    FAILS(lseg_stream_push(stream, NULL, 0, &number), LSEG_INVALID, "image is NULL");
    image.width = 0;
    FAILS(lseg_stream_push(stream, &image, 0, &number), LSEG_INPUT, "no pixels");
    image = rgb_image(WIDTH, HEIGHT, pictures[0]);
    image.memory = LSEG_MEMORY_CUDA;
    FAILS(lseg_stream_push(stream, &image, 0, &number), LSEG_DEVICE, "");
    CHECK(number == 7);
    FAILS(lseg_stream_poll(NULL, &answer), LSEG_INVALID, "stream is NULL");
    FAILS(lseg_stream_poll(stream, NULL), LSEG_INVALID, "answer is NULL");
    FAILS(lseg_stream_recv(NULL, 0, &answer), LSEG_INVALID, "stream is NULL");
    FAILS(lseg_stream_recv(stream, 0, NULL), LSEG_INVALID, "answer is NULL");
    FAILS(lseg_stream_set_labels(NULL, lists[0], 3, &number), LSEG_INVALID, "stream is NULL");
    FAILS(lseg_stream_set_labels(stream, NULL, 3, &number), LSEG_INVALID, "labels is NULL");
    FAILS(lseg_stream_set_labels(stream, lists[1], 3, &number), LSEG_INVALID, "labels[2] is NULL");
    FAILS(lseg_stream_stats(NULL, &stats), LSEG_INVALID, "stream is NULL");
    FAILS(lseg_stream_stats(stream, NULL), LSEG_INVALID, "stats is NULL");
    stats.size = 1;
    FAILS(lseg_stream_stats(stream, &stats), LSEG_INVALID, "set it to sizeof(lseg_stats)");
    stats.size = offsetof(lseg_stats, done);
    stats.done = 77;
    WORKS(lseg_stream_stats(stream, &stats)); // As an older program has it.
    CHECK(stats.done == 77);
    FAILS(lseg_stream_close_input(NULL), LSEG_INVALID, "stream is NULL");
    FAILS(lseg_stream_is_over(NULL, &is_over), LSEG_INVALID, "stream is NULL");
    FAILS(lseg_stream_is_over(stream, NULL), LSEG_INVALID, "is_over is NULL");
    FAILS(lseg_stream_stop(NULL), LSEG_INVALID, "stream is NULL");
}

static void nulls_of_answers(const lseg_answer *answer) {
    static float vectors[1];
    lseg_answer_info info = info_of(answer);
    lseg_output output = output_of(LSEG_SCORES, vectors, sizeof vectors);
    lseg_tensor *tensor = NULL;
    const char *const *labels = NULL;
    size_t count = 0;
    FAILS(lseg_answer_describe(NULL, &info), LSEG_INVALID, "answer is NULL");
    FAILS(lseg_answer_describe(answer, NULL), LSEG_INVALID, "info is NULL");
    FAILS(lseg_answer_read(NULL, &output, 1), LSEG_INVALID, "answer is NULL");
    FAILS(lseg_answer_read(answer, NULL, 1), LSEG_INVALID, "outputs is NULL");
    FAILS(lseg_answer_read(answer, &output, 1), LSEG_INVALID, "LSEG_SCORES is none of the outputs that the stream has begun with");
    FAILS(lseg_answer_output_bytes(answer, &output), LSEG_INVALID, "LSEG_SCORES");
    FAILS(lseg_answer_output_bytes(NULL, &output), LSEG_INVALID, "answer is NULL");
    FAILS(lseg_answer_output_bytes(answer, NULL), LSEG_INVALID, "output is NULL");
    output = output_of(LSEG_EMBEDDING_F32, vectors, sizeof vectors);
    FAILS(lseg_answer_read(answer, &output, 1), LSEG_INVALID, "4 bytes for LSEG_EMBEDDING_F32");
    output.normalise = 1;
    FAILS(lseg_answer_read(answer, &output, 1), LSEG_INVALID, "the stream has begun with");
    output = output_of(LSEG_MASK16, NULL, 0);
    FAILS(lseg_answer_read(answer, &output, 1), LSEG_INVALID, "the data of LSEG_MASK16 is NULL");
    output.bytes = 0;
    WORKS(lseg_answer_output_bytes(answer, &output));
    CHECK(output.bytes == 2 * PIXELS && output.shape[0] == HEIGHT && output.shape[1] == WIDTH && output.shape[2] == 1);
    FAILS(lseg_answer_tensor(NULL, LSEG_MASK16, &tensor), LSEG_INVALID, "answer is NULL");
    FAILS(lseg_answer_tensor(answer, LSEG_MASK16, NULL), LSEG_INVALID, "tensor is NULL");
    FAILS(lseg_answer_tensor(answer, -1, &tensor), LSEG_INVALID, "output.kind is -1");
    FAILS(lseg_answer_tensor(answer, LSEG_BEST, &tensor), LSEG_INVALID, "LSEG_BEST is none of the outputs");
    FAILS(lseg_answer_tensor(answer, LSEG_MASK16, &tensor), LSEG_INVALID, "lseg_answer_read");
    FAILS(lseg_answer_labels(NULL, &labels, &count), LSEG_INVALID, "answer is NULL");
    FAILS(lseg_answer_labels(answer, NULL, &count), LSEG_INVALID, "labels is NULL");
    FAILS(lseg_answer_labels(answer, &labels, NULL), LSEG_INVALID, "count is NULL");
    lseg_answer_release(NULL);
}

static void every_null(lseg_engine *engine) {
    const lseg_output outputs[] = {output_of(LSEG_MASK16, NULL, 0), output_of(LSEG_EMBEDDING_F32, NULL, 0)};
    const lseg_image image = rgb_image(WIDTH, HEIGHT, pictures[0]);
    lseg_stream *stream = NULL;
    lseg_answer *answer = NULL;
    WORKS(lseg_stream_start(engine, NULL, outputs, 2, &stream));
    nulls_of_streams(stream);
    WORKS(lseg_stream_push(stream, &image, 0, NULL));
    WORKS(lseg_stream_recv(stream, 60000, &answer));
    nulls_of_answers(answer);
    WORKS(lseg_stream_stop(stream));
    lseg_stream_free(stream);
    check_answer(answer);
    lseg_answer_release(answer);
}

int main(int count, char **arguments) {
    if (count == 2) all = atoi(arguments[1]);
    for (size_t which = 0; which < PICTURES; which++) {
        paint(pictures[which], WIDTH, HEIGHT);
        memset(pictures[which] + which * 3 * WIDTH * 12, 90, 3 * WIDTH * 12);
    }
    lseg_engine *engine = open_small();
    expect(engine);
    every_frame(engine);
    the_newest_frame();
    frames_that_fail();
    starting(engine);
    every_null(engine);
    lseg_close(engine);
    puts("stream: passed");
    return 0;
}
