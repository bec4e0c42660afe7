// The C++ header, with exceptions and (-fno-exceptions) without.

#include "lseg_fast.hpp"

#include "check.h"

#include <type_traits>

static_assert(std::is_nothrow_move_constructible_v<lseg::Engine> && std::is_nothrow_move_assignable_v<lseg::Engine>);
static_assert(!std::is_copy_constructible_v<lseg::Engine> && !std::is_copy_assignable_v<lseg::Engine>);
static_assert(std::is_nothrow_move_constructible_v<lseg::Tensor> && !std::is_copy_constructible_v<lseg::Tensor>);
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
