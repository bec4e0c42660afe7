// lseg_fast.h for C++17: handles that close themselves, failures that are thrown. All of it is in this header, so that between a program
// and the library there is C alone.
//
// Every function that can fail throws lseg::Error. With -fno-exceptions it returns the failure's lseg_status instead; what returns a
// value then returns an empty one, and lseg_error() has the words. The two have different names for the linker, so that files of one
// program may differ. LSEG_FULL and LSEG_EMPTY are no failures: they are returned.

#ifndef LSEG_FAST_HPP
#define LSEG_FAST_HPP

#include "lseg_fast.h"

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#if defined(__cpp_exceptions)
#include <stdexcept>
#endif

namespace lseg {

#if defined(__cpp_exceptions)
inline namespace throwing {

// A failure: what() is lseg_error()'s words.
class Error : public std::runtime_error {
public:
    explicit Error(lseg_status status) : std::runtime_error(lseg_error()), status_(status) {}
    lseg_status status() const noexcept { return status_; }

private:
    lseg_status status_;
};

// LSEG_OK, or it throws.
inline lseg_status check(lseg_status status) {
    if (status != LSEG_OK) throw Error(status);
    return status;
}
#else
inline namespace returning {

// What it is given.
inline lseg_status check(lseg_status status) noexcept { return status; }
#endif

// The demo model, or the one of a file; "auto", "cpu", "cuda" or "cuda:1".
inline lseg_options options(const char *model = nullptr, const char *device = nullptr) noexcept {
    lseg_options made{};
    made.size = sizeof made;
    made.model = model;
    made.device = device;
    return made;
}

// An image of one plane in the host's memory; a pitch of 0 is a row's own bytes.
inline lseg_image image(lseg_format format, std::uint32_t width, std::uint32_t height, const void *data,
                        std::size_t pitch = 0) noexcept {
    lseg_image made{};
    made.size = sizeof made;
    made.format = format;
    made.width = width;
    made.height = height;
    made.plane[0] = data;
    made.pitch[0] = pitch;
    return made;
}

// An image of two planes: LSEG_FORMAT_NV12 and its kin.
inline lseg_image nv12(lseg_format format, std::uint32_t width, std::uint32_t height, const void *luma, const void *chroma,
                       std::size_t pitch = 0) noexcept {
    lseg_image made = image(format, width, height, luma, pitch);
    made.plane[1] = chroma;
    made.pitch[1] = pitch;
    return made;
}

// The same image, in CUDA memory, made on this stream (cudaStream_t or CUstream).
inline lseg_image on_cuda(lseg_image image, void *stream) noexcept {
    image.memory = LSEG_MEMORY_CUDA;
    image.cuda_stream = stream;
    return image;
}

// A result in memory of the caller's.
inline lseg_output output(lseg_kind kind, void *data = nullptr, std::size_t bytes = 0, std::size_t pitch = 0) noexcept {
    lseg_output made{};
    made.size = sizeof made;
    made.kind = kind;
    made.data = data;
    made.bytes = bytes;
    made.pitch = pitch;
    return made;
}

// Texts as C has them.
inline std::vector<const char *> pointers(const std::vector<std::string> &texts) {
    std::vector<const char *> made;
    made.reserve(texts.size());
    for (const std::string &text : texts) made.push_back(text.c_str());
    return made;
}

// A result in the GPU's memory, which no later frame overwrites while this is there.
class Tensor {
public:
    Tensor() noexcept = default;
    explicit Tensor(lseg_tensor *handle) noexcept : handle_(handle) {}
    Tensor(Tensor &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

    Tensor &operator=(Tensor &&other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }

    Tensor(const Tensor &) = delete;
    Tensor &operator=(const Tensor &) = delete;

    ~Tensor() { lseg_tensor_release(handle_); }

    // For the functions of lseg_fast.h; it stays this object's.
    lseg_tensor *handle() const noexcept { return handle_; }

    // Its address, bytes, shape, element and GPU.
    lseg_tensor_info info() const {
        lseg_tensor_info info{};
        info.size = sizeof info;
        check(lseg_tensor_describe(handle_, &info));
        return info;
    }

    // What is queued on this CUDA stream from now on finds the result.
    lseg_status follow(void *stream) const { return check(lseg_tensor_follow(handle_, stream)); }

    // Waits until it is computed.
    lseg_status wait() const { return check(lseg_tensor_wait(handle_)); }

    // Waits, and copies it to the host.
    lseg_status read(void *data, std::size_t bytes) const { return check(lseg_tensor_read(handle_, data, bytes)); }

private:
    lseg_tensor *handle_ = nullptr;
};

// A stream of the newest frame, or (LSEG_EVERY) of every one; all else is to be set in it.
inline lseg_stream_options stream_options(lseg_policy policy = LSEG_NEWEST) noexcept {
    lseg_stream_options made{};
    made.size = sizeof made;
    made.policy = policy;
    return made;
}

// What became of one frame of a stream. An empty one has no handle.
class Answer {
public:
    Answer() noexcept = default;
    explicit Answer(lseg_answer *handle) noexcept : handle_(handle) {}
    Answer(Answer &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

    Answer &operator=(Answer &&other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }

    Answer(const Answer &) = delete;
    Answer &operator=(const Answer &) = delete;

    ~Answer() { lseg_answer_release(handle_); }

    // For the functions of lseg_fast.h; it stays this object's.
    lseg_answer *handle() const noexcept { return handle_; }

    // Its number, stamp, epoch, times, and whether it failed.
    lseg_answer_info info() const {
        lseg_answer_info info{};
        info.size = sizeof info;
        check(lseg_answer_describe(handle_, &info));
        return info;
    }

    // How many bytes an output takes, and its shape: in the output itself.
    lseg_status measure(lseg_output &output) const { return check(lseg_answer_output_bytes(handle_, &output)); }

    // Some of the outputs that its stream began with, into the memory that they name.
    lseg_status read(std::initializer_list<lseg_output> outputs) const {
        return check(lseg_answer_read(handle_, outputs.begin(), outputs.size()));
    }

    // One output, into a vector that gets its size.
    template <typename T> lseg_status read(lseg_output output, std::vector<T> &values) const {
        const lseg_status status = measure(output);
        if (status != LSEG_OK) return status;
        values.resize((output.bytes + sizeof(T) - 1) / sizeof(T));
        output.data = values.data();
        return read({output});
    }

    // Each pixel's label, of at most 256 labels: [height][width].
    std::vector<std::uint8_t> mask8() const {
        std::vector<std::uint8_t> mask;
        read(output(LSEG_MASK8), mask);
        return mask;
    }

    // Each pixel's label: [height][width].
    std::vector<std::uint16_t> mask16() const {
        std::vector<std::uint16_t> mask;
        read(output(LSEG_MASK16), mask);
        return mask;
    }

    // An output that stays on the GPU. A failure without exceptions is a tensor whose handle is NULL.
    Tensor tensor(lseg_kind kind) const {
        lseg_tensor *tensor = nullptr;
        check(lseg_answer_tensor(handle_, kind, &tensor));
        return Tensor(tensor);
    }

    // The words that its mask's values are of.
    std::vector<std::string> labels() const {
        const char *const *texts = nullptr;
        std::size_t count = 0;
        if (check(lseg_answer_labels(handle_, &texts, &count)) != LSEG_OK) return {};
        return std::vector<std::string>(texts, texts + count);
    }

private:
    lseg_answer *handle_ = nullptr;
};

// A model on a device, with its words. One thread at a time may use it, any thread.
class Engine {
public:
    // The demo model, on a GPU where one works.
    Engine() : Engine(options()) {}

    // Without exceptions: ask status() whether it is open.
    explicit Engine(const lseg_options &options) : status_(lseg_open(&options, &handle_)) { check(status_); }

    Engine(Engine &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)), status_(other.status_) {}

    Engine &operator=(Engine &&other) noexcept {
        std::swap(handle_, other.handle_);
        std::swap(status_, other.status_);
        return *this;
    }

    Engine(const Engine &) = delete;
    Engine &operator=(const Engine &) = delete;

    ~Engine() { lseg_close(handle_); }

    // How opening it ended.
    lseg_status status() const noexcept { return status_; }

    // For the functions of lseg_fast.h; it stays this object's.
    lseg_engine *handle() const noexcept { return handle_; }

    lseg_status set_labels(std::initializer_list<const char *> labels) {
        return check(lseg_set_labels(handle_, labels.begin(), labels.size()));
    }

    lseg_status set_labels(const std::vector<std::string> &labels) {
        const auto texts = pointers(labels);
        return check(lseg_set_labels(handle_, texts.data(), texts.size()));
    }

    lseg_status set_templates(std::initializer_list<const char *> templates) {
        return check(lseg_set_templates(handle_, templates.begin(), templates.size()));
    }

    lseg_status set_templates(const std::vector<std::string> &templates) {
        const auto texts = pointers(templates);
        return check(lseg_set_templates(handle_, texts.data(), texts.size()));
    }

    // "native", "480x640" (height, width) or "long:480".
    lseg_status set_size(const char *size) { return check(lseg_set_size(handle_, size)); }

    // The confidence below which pixels have no label; 0 is none.
    lseg_status set_threshold(double threshold) { return check(lseg_set_threshold(handle_, threshold)); }

    std::vector<std::string> labels() const {
        const char *const *texts = nullptr;
        std::size_t count = 0;
        if (check(lseg_labels(handle_, &texts, &count)) != LSEG_OK) return {};
        return std::vector<std::string>(texts, texts + count);
    }

    // What it computes on, such as "cpu, 2 threads".
    std::string device() const {
        const char *device = nullptr;
        return check(lseg_device(handle_, &device)) == LSEG_OK ? device : "";
    }

    // The length of an embedding.
    std::size_t dimension() const {
        std::size_t dimension = 0;
        check(lseg_dimension(handle_, &dimension));
        return dimension;
    }

    // Any outputs of an image, of one pass, into the memory that they name.
    lseg_status segment(const lseg_image &image, const lseg_output *outputs, std::size_t count) {
        return check(lseg_segment(handle_, &image, outputs, count));
    }

    lseg_status segment(const lseg_image &image, std::initializer_list<lseg_output> outputs) {
        return segment(image, outputs.begin(), outputs.size());
    }

    // One output that stays on the GPU; it is computed later. A failure without exceptions is a tensor whose handle is NULL.
    Tensor segment_on_device(const lseg_image &image, const lseg_output &output) {
        lseg_tensor *tensor = nullptr;
        check(lseg_segment_on_device(handle_, &image, &output, 1, &tensor));
        return Tensor(tensor);
    }

    // The CUDA stream that it computes on; NULL where there is none.
    void *cuda_stream() const {
        void *stream = nullptr;
        check(lseg_cuda_stream(handle_, &stream));
        return stream;
    }

    // How many bytes an output of such an image takes, and its shape: in the output itself.
    lseg_status measure(const lseg_image &image, lseg_output &output) const {
        return check(lseg_output_bytes(handle_, &image, &output));
    }

    // One output, into a vector that gets its size: given again for the next image, it allocates nothing.
    template <typename T>
    lseg_status compute(const lseg_image &image, lseg_output output, std::vector<T> &values) {
        const lseg_status status = measure(image, output);
        if (status != LSEG_OK) return status;
        values.resize((output.bytes + sizeof(T) - 1) / sizeof(T));
        output.data = values.data();
        return segment(image, &output, 1);
    }

    // Each pixel's label, of at most 256 labels: [height][width].
    std::vector<std::uint8_t> mask8(const lseg_image &image) {
        std::vector<std::uint8_t> mask;
        compute(image, output(LSEG_MASK8), mask);
        return mask;
    }

    // Each pixel's label: [height][width].
    std::vector<std::uint16_t> mask16(const lseg_image &image) {
        std::vector<std::uint16_t> mask;
        compute(image, output(LSEG_MASK16), mask);
        return mask;
    }

    // Embeddings at points, pairs of x and y: [points][dimension].
    std::vector<float> embed_at(const lseg_image &image, const std::vector<float> &points) {
        std::vector<float> vectors(points.size() / 2 * dimension());
        const lseg_status status = lseg_embed_at(handle_, &image, points.data(), points.size() / 2, vectors.data());
        return check(status) == LSEG_OK ? vectors : std::vector<float>();
    }

    // Unit vectors of words: [words][dimension].
    std::vector<float> text(const std::vector<std::string> &words) {
        const auto texts = pointers(words);
        std::vector<float> vectors(texts.size() * dimension());
        const lseg_status status = lseg_text(handle_, texts.data(), texts.size(), vectors.data());
        return check(status) == LSEG_OK ? vectors : std::vector<float>();
    }

private:
    lseg_engine *handle_ = nullptr;
    lseg_status status_ = LSEG_OK;
};

// Frames in, answers out, over an engine's weights. Any thread may use it, several at once. It may outlive its engine.
class Stream {
public:
    // Without exceptions: ask status() whether it has begun. An overlay's colours are of the engine's labels.
    Stream(const Engine &engine, std::initializer_list<lseg_output> outputs,
           const lseg_stream_options &options = stream_options())
        : status_(lseg_stream_start(engine.handle(), &options, outputs.begin(), outputs.size(), &handle_)) {
        check(status_);
    }

    Stream(Stream &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)), status_(other.status_) {}

    Stream &operator=(Stream &&other) noexcept {
        std::swap(handle_, other.handle_);
        std::swap(status_, other.status_);
        return *this;
    }

    Stream(const Stream &) = delete;
    Stream &operator=(const Stream &) = delete;

    ~Stream() { lseg_stream_free(handle_); }

    // How beginning it ended.
    lseg_status status() const noexcept { return status_; }

    // For the functions of lseg_fast.h; it stays this object's.
    lseg_stream *handle() const noexcept { return handle_; }

    // What the system has refused, a line each.
    std::string notes() const {
        const char *notes = nullptr;
        return check(lseg_stream_notes(handle_, &notes)) == LSEG_OK ? notes : "";
    }

    // LSEG_OK, or LSEG_FULL where the frame is not taken.
    lseg_status push(const lseg_image &image, std::int64_t stamp_ns = 0, std::uint64_t *sequence = nullptr) {
        return unless_failed(lseg_stream_push(handle_, &image, stamp_ns, sequence));
    }

    // LSEG_OK and the next answer, or LSEG_EMPTY and an empty one.
    lseg_status poll(Answer &answer) {
        lseg_answer *next = nullptr;
        const lseg_status status = lseg_stream_poll(handle_, &next);
        answer = Answer(next);
        return unless_failed(status);
    }

    // The same, waiting for so long at most.
    lseg_status recv(Answer &answer, std::uint32_t timeout_ms) {
        lseg_answer *next = nullptr;
        const lseg_status status = lseg_stream_recv(handle_, timeout_ms, &next);
        answer = Answer(next);
        return unless_failed(status);
    }

    // Other words from the next frame on: their number.
    std::uint64_t set_labels(std::initializer_list<const char *> labels) {
        std::uint64_t epoch = 0;
        check(lseg_stream_set_labels(handle_, labels.begin(), labels.size(), &epoch));
        return epoch;
    }

    std::uint64_t set_labels(const std::vector<std::string> &labels) {
        const auto texts = pointers(labels);
        std::uint64_t epoch = 0;
        check(lseg_stream_set_labels(handle_, texts.data(), texts.size(), &epoch));
        return epoch;
    }

    lseg_stats stats() const {
        lseg_stats stats{};
        stats.size = sizeof stats;
        check(lseg_stream_stats(handle_, &stats));
        return stats;
    }

    // No more frames.
    lseg_status close_input() { return check(lseg_stream_close_input(handle_)); }

    // Whether it has ended and all answers are taken.
    bool is_over() const {
        std::int32_t is_over = 0;
        check(lseg_stream_is_over(handle_, &is_over));
        return is_over != 0;
    }

    // Finishes the frames in flight; no others are computed.
    lseg_status stop() { return check(lseg_stream_stop(handle_)); }

private:
    static lseg_status unless_failed(lseg_status status) {
        return status == LSEG_FULL || status == LSEG_EMPTY ? status : check(status);
    }

    lseg_stream *handle_ = nullptr;
    lseg_status status_ = LSEG_OK;
};

} // inline namespace
} // namespace lseg

#endif
