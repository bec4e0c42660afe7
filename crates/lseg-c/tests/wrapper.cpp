// The C++ header, with exceptions and (-fno-exceptions) without.

#include "lseg_fast.hpp"

#include "check.h"

#include <type_traits>

static_assert(std::is_nothrow_move_constructible_v<lseg::Engine> && std::is_nothrow_move_assignable_v<lseg::Engine>);
static_assert(!std::is_copy_constructible_v<lseg::Engine> && !std::is_copy_assignable_v<lseg::Engine>);
static_assert(std::is_nothrow_move_constructible_v<lseg::Tensor> && !std::is_copy_constructible_v<lseg::Tensor>);
static_assert(std::is_nothrow_move_constructible_v<lseg::Stream> && !std::is_copy_constructible_v<lseg::Stream>);
static_assert(std::is_nothrow_move_assignable_v<lseg::Answer> && !std::is_copy_constructible_v<lseg::Answer>);
static_assert(std::is_standard_layout_v<lseg_image> && std::is_trivially_copyable_v<lseg_output>);

// That it fails with this status, told in the way of this build.
#if defined(__cpp_exceptions)
template <typename Call> static bool fails(lseg_status status, Call call) {
    try {
        call();
    } catch (const lseg::Error &error) {
        return error.status() == status && std::string(error.what()) == lseg_error();
    }
    return false;
}
#else
template <typename Call> static bool fails(lseg_status status, Call call) { return call() == status; }
#endif

// A stream's answers are the engine's; words change, all frames are counted.
static void streams(lseg::Engine &engine, const lseg_image &image) {
    const auto expected = engine.mask16(image);
    lseg_stream_options options = lseg::stream_options(LSEG_EVERY);
    options.queue = 1;
    lseg::Stream stream(engine, {lseg::output(LSEG_MASK16), lseg::output(LSEG_MASK8)}, options);
    CHECK(stream.status() == LSEG_OK && stream.handle() != nullptr && stream.notes().empty() && !stream.is_over());
    lseg::Answer answer;
    CHECK(answer.handle() == nullptr && stream.poll(answer) == LSEG_EMPTY && stream.recv(answer, 1) == LSEG_EMPTY);

    std::uint64_t sequence = 7;
    CHECK(stream.push(image, 42, &sequence) == LSEG_OK && sequence == 0);
    CHECK(stream.recv(answer, 60000) == LSEG_OK && answer.mask16() == expected);
    CHECK(answer.info().stamp_ns == 42 && answer.info().epoch == 1 && answer.info().status == LSEG_OK);
    CHECK(answer.labels() == engine.labels());
    const auto bytes = answer.mask8();
    CHECK(std::vector<std::uint16_t>(bytes.begin(), bytes.end()) == expected);
    CHECK(fails(LSEG_INVALID, [&] { return answer.read({lseg::output(LSEG_BEST)}); }));

    CHECK(stream.set_labels({"sea", "a dog"}) == 2);
    CHECK(stream.set_labels(std::vector<std::string>{"sea", "a dog"}) == 3);
    // All places are held at last, and then the queue is full.
    std::vector<lseg::Answer> held;
    held.push_back(std::move(answer));
    CHECK(answer.handle() == nullptr); // NOLINT: it is what moving leaves.
    std::uint64_t pushed = 1;
    while (stream.push(image) == LSEG_OK) {
        pushed += 1;
        if (stream.recv(answer, 200) == LSEG_OK) held.push_back(std::move(answer));
    }
    CHECK(held.back().labels() == (std::vector<std::string>{"sea", "a dog"}));
    held.clear();
    stream.close_input();
    while (stream.recv(answer, 60000) == LSEG_OK) CHECK(answer.info().epoch == 3);
    CHECK(stream.is_over() && stream.stats().pushed == pushed && stream.stats().done == pushed);
    CHECK(fails(LSEG_BUSY, [&] { return stream.push(image); }));
    CHECK(stream.stop() == LSEG_OK);

    lseg::Stream moved(std::move(stream));
    CHECK(stream.handle() == nullptr); // NOLINT: it is what moving leaves.
    CHECK(fails(LSEG_INVALID, [&] { return stream.push(image); }) && fails(LSEG_INVALID, [&] { return stream.stop(); }));
    stream = std::move(moved);
    CHECK(stream.is_over());
    options.on_device = 1;
#if defined(__cpp_exceptions)
    CHECK(fails(LSEG_DEVICE, [&] { lseg::Stream none(engine, {lseg::output(LSEG_MASK8)}, options); }));
#else
    CHECK(lseg::Stream(engine, {lseg::output(LSEG_MASK8)}, options).status() == LSEG_DEVICE);
#endif
}

int main() {
    constexpr std::uint32_t width = 80, height = 60;
    std::vector<std::uint8_t> rgb(3 * width * height);
    paint(rgb.data(), width, height);
    const lseg_image image = lseg::image(LSEG_FORMAT_RGB8, width, height, rgb.data());

    lseg::Engine engine(lseg::options(nullptr, "cpu"));
    CHECK(engine.status() == LSEG_OK && engine.handle() != nullptr);
    CHECK(engine.device().rfind("cpu", 0) == 0);
    CHECK(engine.labels().empty());
    CHECK(fails(LSEG_INPUT, [&] { return engine.set_size("small"); }));
    CHECK(fails(LSEG_INPUT, [&] { return engine.set_templates({"no place"}); }));
    CHECK(fails(LSEG_INVALID, [&] { return engine.set_threshold(2); }));
    engine.set_size("64x64");
    engine.set_templates({"a picture of a {}"});
    engine.set_labels({"red ball", "grass", "sky"});
    engine.set_templates(std::vector<std::string>());
    engine.set_labels(std::vector<std::string>{"red ball", "grass", "sky"});
    CHECK(engine.labels() == (std::vector<std::string>{"red ball", "grass", "sky"}));

    const auto mask = engine.mask16(image);
    CHECK(mask.size() == width * height);
    const auto bytes = engine.mask8(image);
    CHECK(std::vector<std::uint16_t>(bytes.begin(), bytes.end()) == mask);

    std::vector<std::uint8_t> confidence(width * height), overlay(3 * width * height);
    engine.segment(image, {lseg::output(LSEG_CONFIDENCE, confidence.data(), confidence.size()),
                           lseg::output(LSEG_OVERLAY, overlay.data(), overlay.size())});
    CHECK(confidence != std::vector<std::uint8_t>(confidence.size()));
    std::vector<float> scores;
    engine.compute(image, lseg::output(LSEG_SCORES), scores);
    CHECK(scores.size() == 3 * 64 * 64);
    const float *before = scores.data();
    engine.compute(image, lseg::output(LSEG_SCORES), scores);
    CHECK(scores.data() == before);

    engine.set_threshold(1);
    const auto sure = engine.mask8(image);
    CHECK(std::vector<std::uint8_t>(sure.size(), 255) == sure);
    engine.set_threshold(0);
    CHECK(engine.mask8(image) == bytes);

    streams(engine, image);
    CHECK(engine.embed_at(image, {0, 0, 10, 20}).size() == 2 * engine.dimension());
    CHECK(engine.text({"a cat"}).size() == engine.dimension());
#if defined(__cpp_exceptions)
    CHECK(fails(LSEG_INPUT, [&] { engine.embed_at(image, {-1, 0}); }));
    CHECK(fails(LSEG_DEVICE, [&] { engine.segment_on_device(image, lseg::output(LSEG_MASK8)); }));
    CHECK(fails(LSEG_DEVICE, [&] { engine.cuda_stream(); }));
    CHECK(fails(LSEG_MODEL, [] { lseg::Engine none(lseg::options("/nowhere")); }));
#else
    CHECK(engine.embed_at(image, {-1, 0}).empty());
    CHECK(engine.segment_on_device(image, lseg::output(LSEG_MASK8)).handle() == nullptr);
    CHECK(engine.cuda_stream() == nullptr);
    CHECK(lseg::Engine(lseg::options("/nowhere")).status() == LSEG_MODEL);
#endif

    const lseg::Tensor none;
    CHECK(fails(LSEG_INVALID, [&] { return none.wait(); }) && fails(LSEG_INVALID, [&] { return none.follow(nullptr); }));
    CHECK(fails(LSEG_INVALID, [&] { return none.read(rgb.data(), 1); }));

    lseg::Engine moved(std::move(engine));
    CHECK(engine.handle() == nullptr); // NOLINT: it is what moving leaves.
    CHECK(fails(LSEG_INVALID, [&] { return engine.set_size("native"); }));
    engine = std::move(moved);
    CHECK(engine.mask16(image) == mask);
    std::puts("wrapper: passed");
    return 0;
}
