// lseg-fast: words and an image in, each pixel named. docs/c.md explains it; this file is made of crates/lseg-c/src.
//
// Each function that returns a status does all of what its comment says, or nothing and lseg_error() says why. Pointers may be
// NULL where a comment says so; elsewhere NULL is LSEG_INVALID. Text is UTF-8 and ends with a zero byte. Structs begin with their
// size: set it to sizeof and all else to zero, then what you need; a program runs with every later library of the same LSEG_ABI.


#ifndef LSEG_FAST_H
#define LSEG_FAST_H

#include <stddef.h>
#include <stdint.h>


// Grows by one with each change that an older program does not survive; the shared library's name ends with it.
#define LSEG_ABI 1

// How a call ended; lseg_error() has the words. Later libraries may have more of them.
enum lseg_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // It did what was asked.
    LSEG_OK = 0,
    // An argument is none: NULL, a number out of range, text that is not UTF-8, a buffer that is too small. Nothing was done.
    LSEG_INVALID = 1,
    // The model's file cannot be read, is damaged or no LSeg; or no model was named and the library has none inside.
    LSEG_MODEL = 2,
    // Labels, a template, points, an image or a size that the model cannot take. Nothing was done.
    LSEG_INPUT = 3,
    // The device is not there, or failed.
    LSEG_DEVICE = 4,
    // The device, or an earlier call, failed in a way that ended this engine: close it. Another may work.
    LSEG_LOST = 5,
    // Another thread is inside this engine; or all places for results on the device are held: release a tensor; or the stream is
    // closed, and takes no more frames.
    LSEG_BUSY = 6,
    // More memory is needed than is free or was allowed.
    LSEG_NO_MEMORY = 7,
    // A result is no finite number: the image, the model's weights or what the device can hold are at fault.
    LSEG_NOT_FINITE = 8,
    // A fault in this library, which was caught. Later calls on the same engine answer LSEG_LOST.
    LSEG_PANIC = 9,
    // No failure, and lseg_error() stays as it is: as many frames wait in the stream as may, and this one is not among them.
    LSEG_FULL = 10,
    // No failure, and lseg_error() stays as it is: the stream has no answer yet, or none any more (lseg_stream_is_over).
    LSEG_EMPTY = 11,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum lseg_status lseg_status;
#else
typedef int32_t lseg_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How an image's bytes are pixels; rows from the top.
enum lseg_format
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Red, green, blue, a byte each.
    LSEG_FORMAT_RGB8 = 0,
    // Blue, green, red: OpenCV's.
    LSEG_FORMAT_BGR8 = 1,
    // With a fourth byte that is not looked at.
    LSEG_FORMAT_RGBA8 = 2,
    // With a fourth byte that is not looked at.
    LSEG_FORMAT_BGRA8 = 3,
    // Grey, a byte.
    LSEG_FORMAT_MONO8 = 4,
    // Plane 0 luma, plane 1 pairs of Cb, Cr for each 2x2 pixels, 2 * ceil(width / 2) bytes a row. BT.601, luma 16-235.
    LSEG_FORMAT_NV12 = 5,
    // BT.601, 0-255.
    LSEG_FORMAT_NV12_FULL = 6,
    // BT.709, luma 16-235.
    LSEG_FORMAT_NV12_BT709 = 7,
    // BT.709, 0-255.
    LSEG_FORMAT_NV12_BT709_FULL = 8,
    // Luma, Cb, luma, Cr for each two pixels of a row, 4 * ceil(width / 2) bytes a row. BT.601, luma 16-235.
    LSEG_FORMAT_YUYV = 9,
    // BT.601, 0-255.
    LSEG_FORMAT_YUYV_FULL = 10,
    // BT.709, luma 16-235.
    LSEG_FORMAT_YUYV_BT709 = 11,
    // BT.709, 0-255.
    LSEG_FORMAT_YUYV_BT709_FULL = 12,
    // Planes 0, 1, 2 are red, green, blue: float in 0-1.
    LSEG_FORMAT_RGB_F32 = 13,
    // As LSEG_FORMAT_RGB_F32, of IEEE half-precision floats.
    LSEG_FORMAT_RGB_F16 = 14,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum lseg_format lseg_format;
#else
typedef int32_t lseg_format;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Whose memory an image is in.
enum lseg_memory
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Addresses of this process.
    LSEG_MEMORY_HOST = 0,
    // CUDA device memory of the engine's GPU, in its primary context.
    LSEG_MEMORY_CUDA = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum lseg_memory lseg_memory;
#else
typedef int32_t lseg_memory;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What a frame may yield. Sizes are the image's unless another is told; rows from the top.
enum lseg_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Each pixel's label: its index, uint8_t [height][width]; 255 below the threshold (lseg_set_threshold). At most 256 labels, 255
    // with a threshold.
    LSEG_MASK8 = 0,
    // Each pixel's label: its index, uint16_t [height][width]; 65535 below the threshold.
    LSEG_MASK16 = 1,
    // Softmax of the winning label at each pixel times 255, rounded: uint8_t [height][width].
    LSEG_CONFIDENCE = 2,
    // Every label's logit: float [labels][h][w] at the network's size.
    LSEG_SCORES = 3,
    // Softmax of the scores over the labels, of their shape.
    LSEG_PROBABILITIES = 4,
    // The winning label's logit: float [height][width].
    LSEG_BEST = 5,
    // The image tinted with its labels' colours: red, green, blue, uint8_t [height][width][3].
    LSEG_OVERLAY = 6,
    // The pixels' embeddings, IEEE half-precision floats, in the output's layout and size. Needs no labels.
    LSEG_EMBEDDING_F16 = 7,
    // The pixels' embeddings, float, in the output's layout and size. Needs no labels.
    LSEG_EMBEDDING_F32 = 8,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum lseg_kind lseg_kind;
#else
typedef int32_t lseg_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The order of an embedding's dimensions.
enum lseg_layout
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // [height][width][channels]: a pixel's vector in one piece.
    LSEG_LAYOUT_HWC = 0,
    // [channels][height][width].
    LSEG_LAYOUT_CHW = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum lseg_layout lseg_layout;
#else
typedef int32_t lseg_layout;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The size of an embedding.
enum lseg_at
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Half the network's, at which it is computed.
    LSEG_AT_HALF = 0,
    // The network's.
    LSEG_AT_FULL = 1,
    // The image's.
    LSEG_AT_PHOTO = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum lseg_at lseg_at;
#else
typedef int32_t lseg_at;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What a value of a tensor is.
enum lseg_element
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // uint8_t
    LSEG_ELEMENT_U8 = 0,
    // uint16_t
    LSEG_ELEMENT_U16 = 1,
    // IEEE half-precision float
    LSEG_ELEMENT_F16 = 2,
    // float
    LSEG_ELEMENT_F32 = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum lseg_element lseg_element;
#else
typedef int32_t lseg_element;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The CUDA context of an engine.
enum lseg_context
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // The GPU's primary one, in which the CUDA runtime and all that build on it are: images and tensors on the GPU need it.
    LSEG_CONTEXT_PRIMARY = 0,
    // One of the engine's own.
    LSEG_CONTEXT_OWN = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum lseg_context lseg_context;
#else
typedef int32_t lseg_context;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How the host waits for a GPU.
enum lseg_wait
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // As the driver chooses: mostly by asking again and again, which is the quickest and takes a core.
    LSEG_WAIT_DRIVER = 0,
    // Asleep until the GPU calls.
    LSEG_WAIT_BLOCK = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum lseg_wait lseg_wait;
#else
typedef int32_t lseg_wait;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Which frames of a stream are computed, where more come than can be.
enum lseg_policy
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // The newest: a frame that waits is replaced by the next.
    LSEG_NEWEST = 0,
    // Every one, in order; where as many wait as may a push is LSEG_FULL.
    LSEG_EVERY = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum lseg_policy lseg_policy;
#else
typedef int32_t lseg_policy;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How a stream's thread waits for a frame, and for a GPU.
enum lseg_waiting
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Asleep, and woken; for a GPU as enum lseg_wait says.
    LSEG_WAITING_BLOCK = 0,
    // Asking again and again, and in between letting other threads run.
    LSEG_WAITING_YIELD = 1,
    // Asking again and again: the least jitter, and a core of its own.
    LSEG_WAITING_SPIN = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum lseg_waiting lseg_waiting;
#else
typedef int32_t lseg_waiting;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What became of one frame, which no later one overwrites while this is held. Any thread may use it, one at a time; it may outlive its
// stream. Releasing it frees the place of its results for another.
typedef struct lseg_answer lseg_answer;

// A model on a device, with its words. One thread at a time may call with it, any thread; a call that comes while another is
// inside answers LSEG_BUSY.
typedef struct lseg_engine lseg_engine;

// Frames in, answers out, computed by a thread of its own over an engine's weights. Any thread may call with it, several at once. It
// may outlive its engine, and its answers may outlive it.
typedef struct lseg_stream lseg_stream;

// A result in the GPU's memory, which no later frame overwrites while this is held. Any thread may use it, one at a time; it may
// outlive its engine.
typedef struct lseg_tensor lseg_tensor;

// What an engine is made of. All zeros but for the size is a good choice.
typedef struct lseg_options {
    // sizeof(lseg_options)
    size_t size;
    // A file that `lseg-fast convert` has made, or a published checkpoint; NULL is the demo model inside the library.
    const char *model;
    // "auto", "cpu", "cuda" or "cuda:1"; NULL is "auto": a GPU where one works, else the CPU.
    const char *device;
    // enum lseg_context
    int32_t context;
    // enum lseg_wait
    int32_t wait;
    // CPU threads; 0 is one a core.
    uint32_t threads;
    // How long a GPU may take for one pass before the engine is lost, in milliseconds; 0 is as long as it likes.
    uint32_t timeout_ms;
    // The most bytes that the engine may take, of the host's memory and again of a GPU's; 0 is three quarters of what is free.
    uint64_t memory;
} lseg_options;

// An image of the caller's, which is read where it lies and must stay as it is while a call has it.
typedef struct lseg_image {
    // sizeof(lseg_image)
    size_t size;
    // enum lseg_format
    int32_t format;
    // enum lseg_memory
    int32_t memory;
    // Pixels of a row.
    uint32_t width;
    // Rows.
    uint32_t height;
    // The first byte of each plane that the format has.
    const void *plane[3];
    // Bytes from a row to the next, of each plane, not fewer than a row's own; 0 is a row's own.
    size_t pitch[3];
    // Of CUDA memory: the cudaStream_t or CUstream on which the image is made (NULL is the default stream). The frame begins when
    // what is queued there has ended, and what is queued there later begins when the image has been read; nobody waits on the host.
    void *cuda_stream;
} lseg_image;

// One result of a frame, and the caller's memory for it. The same one serves again, for frame after frame.
typedef struct lseg_output {
    // sizeof(lseg_output); the same in all outputs of a call.
    size_t size;
    // enum lseg_kind
    int32_t kind;
    // Of an embedding: enum lseg_layout.
    int32_t layout;
    // Of an embedding: enum lseg_at.
    int32_t at;
    // Of an embedding: whether each vector is brought to length 1.
    int32_t normalise;
    // Where it goes, in the host's memory.
    void *data;
    // How many bytes are there; lseg_output_bytes tells how many it takes.
    size_t bytes;
    // Bytes from a row to the next, not fewer than a row's own; 0 is a row's own.
    size_t pitch;
    // Of an overlay: red, green and blue of each label; NULL is the colours that the program takes.
    const uint8_t *colours;
    // Of an overlay: the weight of the labels' colours, above 0 and up to 1; 0 is a half.
    double alpha;
    // lseg_output_bytes writes here what the rows and columns of enum lseg_kind are.
    size_t shape[3];
} lseg_output;

// Where a tensor lies and what it is.
typedef struct lseg_tensor_info {
    // sizeof(lseg_tensor_info)
    size_t size;
    // CUDA device memory; the values follow each other without padding.
    void *address;
    // How many bytes are there.
    size_t bytes;
    // 1, then as enum lseg_kind tells: a mask has 1, height, width, 1.
    size_t shape[4];
    // enum lseg_element. A mask of at most 256 labels, with a threshold 255, is of bytes here whichever kind was asked for.
    int32_t element;
    // The GPU's number.
    int32_t gpu;
} lseg_tensor_info;

// How a stream works. All zeros but for the size is a good choice.
typedef struct lseg_stream_options {
    // sizeof(lseg_stream_options)
    size_t size;
    // enum lseg_policy
    int32_t policy;
    // enum lseg_waiting
    int32_t wait;
    // Of LSEG_EVERY: how many frames may wait; 0 is 4.
    uint32_t queue;
    // Answers that may be held or wait to be taken; of more the stream waits until one is released. 0 is 2.
    uint32_t pool;
    // A frame that has waited for longer, in milliseconds, is not computed; 0 is never.
    uint32_t stale_after_ms;
    // The thread's realtime priority (SCHED_FIFO), 1 to 99; 0 is none.
    uint32_t priority;
    // Whether the process's memory is kept from being paged out (mlockall).
    int32_t lock_memory;
    // Whether it is an error where the system refuses priority, processors or locked memory (else lseg_stream_notes tells).
    int32_t realtime_required;
    // On a GPU: whether a frame is brought over only when the one before is done.
    int32_t no_overlap;
    // Whether results stay on the GPU: lseg_answer_tensor has them.
    int32_t on_device;
    // The processors that the thread may run on, cpu_count of them; NULL is all.
    const uint32_t *cpus;
    // How many are at cpus.
    size_t cpu_count;
} lseg_stream_options;

// What became of the frames of a stream, and how long it took. pushed = done + replaced + stale + failed + in_flight, always.
typedef struct lseg_stats {
    // sizeof(lseg_stats)
    size_t size;
    // Frames that were taken.
    uint64_t pushed;
    // Frames that were computed.
    uint64_t done;
    // Frames in whose place a newer one was computed.
    uint64_t replaced;
    // Frames that were not computed because they had waited too long, or the stream was stopped.
    uint64_t stale;
    // Frames of which nothing could be computed; each one's answer says why.
    uint64_t failed;
    // Frames that wait or are computed just now.
    uint64_t in_flight;
    // Answers in whose place a newer one came before anybody took them.
    uint64_t unread;
    // How often the engine was made anew.
    uint64_t restarts;
    // From a frame's push to its answer, in nanoseconds: the median, to a sixteenth of an octave, as all of these.
    uint64_t age_p50_ns;
    // 99 % of them are no longer.
    uint64_t age_p99_ns;
    // The longest.
    uint64_t age_max_ns;
    // From when a frame was taken to its answer: the median.
    uint64_t computed_p50_ns;
    // 99 % of them are no longer.
    uint64_t computed_p99_ns;
    // How far the time from one answer to the next is from its median: the median.
    uint64_t jitter_p50_ns;
    // 99 % of them are no farther.
    uint64_t jitter_p99_ns;
} lseg_stats;

// What an answer is about, and how long it took.
typedef struct lseg_answer_info {
    // sizeof(lseg_answer_info)
    size_t size;
    // How many frames were taken before this one.
    uint64_t sequence;
    // As it was pushed.
    int64_t stamp_ns;
    // Which list of labels it was asked about: lseg_stream_set_labels tells the number of each; those that the stream began with have 1.
    uint64_t epoch;
    // From its push until the engine took it, in nanoseconds.
    uint64_t waited_ns;
    // From then until its results were there.
    uint64_t computed_ns;
    // The sum: how old the frame was, from its push.
    uint64_t age_ns;
    // enum lseg_status: LSEG_OK, or why nothing could be computed of it. lseg_answer_read has the words.
    int32_t status;
    // Zero.
    int32_t reserved;
} lseg_answer_info;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Why this thread's last call that failed did so: one line of UTF-8 without a full stop, never NULL, empty before there was one.
// It is there until this thread's next failure.
const char *lseg_error(void);

// LSEG_ABI of the library that the program runs with.
uint32_t lseg_abi(void);

// The version of lseg-fast, such as "0.1.0".
const char *lseg_version(void);

// The name of a status, such as "LSEG_INVALID"; "unknown" for a number that is none.
const char *lseg_status_name(int32_t status);

// Opens a model on a device: LSEG_MODEL, LSEG_DEVICE or LSEG_NO_MEMORY where that fails, and `*engine` is NULL then. `options` may
// be NULL: the demo model, on a GPU where one works.
lseg_status lseg_open(const struct lseg_options *options,
                      struct lseg_engine **engine);

// Gives an engine back; NULL is nothing. No call may be inside it. Tensors that it gave stay until they are released.
void lseg_close(struct lseg_engine *engine);

// The words to look for, UTF-8, in the order of a mask's values. Words that were known before cost nothing again. Where it
// fails the old ones stay.
lseg_status lseg_set_labels(struct lseg_engine *engine,
                            const char *const *labels,
                            size_t count);

// Texts around the words, for the next lseg_set_labels: each has a {} for the word, such as "a photo of a {}". A word is then the
// mean of its texts. None (the default) leaves words as they are.
lseg_status lseg_set_templates(struct lseg_engine *engine,
                               const char *const *templates,
                               size_t count);

// The words that were set last: `*labels` points to `*count` texts, which are there until the next lseg_set_labels or lseg_close.
lseg_status lseg_labels(const struct lseg_engine *engine,
                        const char *const **labels,
                        size_t *count);

// The size at which the network sees the images to come: "native" (the image's own), "480x640" (height, width) or "long:480" (its
// longer side). Sides are rounded to multiples of 32. Before this it is the model's own.
lseg_status lseg_set_size(struct lseg_engine *engine,
                          const char *size);

// The confidence, within 0 and 1, below which the pixels of masks and overlays to come have no label; 0 (the default) leaves each
// pixel its label.
lseg_status lseg_set_threshold(struct lseg_engine *engine,
                               double threshold);

// What it computes on, such as "cpu, 2 threads": text that is there until lseg_close.
lseg_status lseg_device(const struct lseg_engine *engine, const char **device);

// The length of an embedding, of a word or a pixel.
lseg_status lseg_dimension(const struct lseg_engine *engine, size_t *dimension);

// Embeddings of words, unit vectors: float [count][dimension] into `vectors`. Templates are not used, labels stay as they are.
lseg_status lseg_text(struct lseg_engine *engine,
                      const char *const *words,
                      size_t count,
                      float *vectors);

// Tells how many bytes `output` takes for `image`, with the pitch that is in it, and its shape; the image's planes may be NULL.
// Depends on the labels and the size that are set. Nothing is computed.
lseg_status lseg_output_bytes(const struct lseg_engine *engine,
                              const struct lseg_image *image,
                              struct lseg_output *output);

// Computes `count` outputs of an image, of one pass, into their memory. From the second image of a size on nothing is
// allocated for it.
lseg_status lseg_segment(struct lseg_engine *engine,
                         const struct lseg_image *image,
                         const struct lseg_output *outputs,
                         size_t count);

// Embeddings at `count` points of an image: float [count][dimension] into `vectors`. `points` are pairs of x and y in pixels, the
// centre of the first pixel at 0, 0. Needs no labels.
lseg_status lseg_embed_at(struct lseg_engine *engine,
                          const struct lseg_image *image,
                          const float *points,
                          size_t count,
                          float *vectors);

// As lseg_segment, into tensors of the engine's own: one for each output, in their order, to be given back by lseg_tensor_release.
// Of an output its data, bytes and pitch are not looked at. It returns before they are computed: see lseg_tensor_follow and
// lseg_tensor_wait. The results of two frames may be held at a time, or of as many as lseg_set_device_places says; beyond that it is
// LSEG_BUSY. LSEG_DEVICE on a CPU.
lseg_status lseg_segment_on_device(struct lseg_engine *engine,
                                   const struct lseg_image *image,
                                   const struct lseg_output *outputs,
                                   size_t count,
                                   struct lseg_tensor **tensors);

// How many frames' results may be held on the GPU at once, one at least; 2 before this.
lseg_status lseg_set_device_places(struct lseg_engine *engine, size_t places);

// The CUDA stream (CUstream, cudaStream_t) that the engine computes on, there until lseg_close. An image whose cuda_stream it is needs
// no event. LSEG_DEVICE on a CPU.
lseg_status lseg_cuda_stream(const struct lseg_engine *engine,
                             void **stream);

// Where it lies and what it is; `info->size` is to be set.
lseg_status lseg_tensor_describe(const struct lseg_tensor *tensor, struct lseg_tensor_info *info);

// What is queued on this CUDA stream from now on finds the result computed, and its memory is used again only behind what is queued
// there when it is released. Nobody waits on the host. The stream is of the engine's context and must live until then.
lseg_status lseg_tensor_follow(const struct lseg_tensor *tensor,
                               void *cuda_stream);

// Waits until it is computed: LSEG_NOT_FINITE where it is no numbers, and whatever else went wrong.
lseg_status lseg_tensor_wait(const struct lseg_tensor *tensor);

// Waits, and copies it to the host: `bytes` is what lseg_tensor_describe tells.
lseg_status lseg_tensor_read(const struct lseg_tensor *tensor, void *data, size_t bytes);

// Gives a tensor back, which waits for nothing; NULL is nothing.
void lseg_tensor_release(struct lseg_tensor *tensor);

// Begins a stream over an engine's weights, with the labels, templates, size and threshold that the engine has now; nothing that is set
// in the engine later changes it. Each frame is asked for `count` outputs: their data, bytes and pitch are not looked at; the colours of
// an overlay are kept, and words beyond them get colours of the program's. `options` may be NULL. LSEG_DEVICE where results shall stay
// on a GPU and there is none, and for what is required of the system and refused; `*stream` is NULL then.
lseg_status lseg_stream_start(const struct lseg_engine *engine,
                              const struct lseg_stream_options *options,
                              const struct lseg_output *outputs,
                              size_t count,
                              struct lseg_stream **stream);

// What the system has refused of priority, processors and locked memory: a line each, empty where it is nothing. Text that is there
// until lseg_stream_free.
lseg_status lseg_stream_notes(const struct lseg_stream *stream,
                              const char **notes);

// Copies a frame, which the caller may use again at once, and gives it to the stream; waits for nothing. The stamp is the caller's,
// nanoseconds by whatever clock: its answer has it. `*sequence` (which may be NULL) is its number: how many were taken before it.
// LSEG_FULL where it is not taken, because as many wait as may (of LSEG_EVERY alone). LSEG_DEVICE for an image in CUDA memory,
// LSEG_BUSY once the stream is closed, LSEG_LOST where it has ended by an error.
lseg_status lseg_stream_push(struct lseg_stream *stream,
                             const struct lseg_image *image,
                             int64_t stamp_ns,
                             uint64_t *sequence);

// The next answer, if there is one, to be given back by lseg_answer_release: of LSEG_NEWEST the last that was computed, else in the
// order of the frames. LSEG_EMPTY where there is none, and `*answer` is NULL then.
lseg_status lseg_stream_poll(struct lseg_stream *stream,
                             struct lseg_answer **answer);

// As lseg_stream_poll, waiting for so long at most. LSEG_EMPTY at once where nothing will come any more (lseg_stream_is_over), LSEG_LOST
// where the stream has ended by an error and all answers are taken.
lseg_status lseg_stream_recv(struct lseg_stream *stream,
                             uint32_t timeout_ms,
                             struct lseg_answer **answer);

// Other words from the next frame on, with the templates that the engine had when the stream began; frames that are computed keep
// theirs. They are encoded on the caller's thread, beside running frames. `*epoch` (which may be NULL) is their number, which answers
// about them have. Where it fails the words stay as they are.
lseg_status lseg_stream_set_labels(struct lseg_stream *stream,
                                   const char *const *labels,
                                   size_t count,
                                   uint64_t *epoch);

// What became of its frames so far; `stats->size` is to be set.
lseg_status lseg_stream_stats(const struct lseg_stream *stream, struct lseg_stats *stats);

// No more frames: those that wait are computed, and their answers can be taken.
lseg_status lseg_stream_close_input(struct lseg_stream *stream);

// Whether the stream has ended and all answers are taken: `*is_over` is 1 or 0.
lseg_status lseg_stream_is_over(const struct lseg_stream *stream, int32_t *is_over);

// Ends the stream: frames in flight are finished, those that wait are not computed (they count as stale), and its thread is gone when
// this returns. Answers that are there can still be taken. LSEG_LOST where it had ended by an error.
lseg_status lseg_stream_stop(struct lseg_stream *stream);

// Stops a stream and gives it back; NULL is nothing. No call may be inside it. Answers that it gave stay until they are released.
void lseg_stream_free(struct lseg_stream *stream);

// What it is about; `info->size` is to be set.
lseg_status lseg_answer_describe(const struct lseg_answer *answer, struct lseg_answer_info *info);

// Tells how many bytes `output` takes, with the pitch that is in it, and its shape, as lseg_output_bytes does.
lseg_status lseg_answer_output_bytes(const struct lseg_answer *answer, struct lseg_output *output);

// Copies `count` outputs of those that the stream began with into their memory, as lseg_segment does. Where nothing could be computed
// of the frame: why.
lseg_status lseg_answer_read(const struct lseg_answer *answer,
                             const struct lseg_output *outputs,
                             size_t count);

// The output of a kind (enum lseg_kind) that stays on the GPU, computed, to be given back by lseg_tensor_release; it may outlive the
// answer. While as many frames' tensors are held as the stream has places, further frames fail with LSEG_BUSY.
lseg_status lseg_answer_tensor(const struct lseg_answer *answer,
                               int32_t kind,
                               struct lseg_tensor **tensor);

// The words that its mask's values are of: `*labels` points to `*count` texts, which are there until lseg_answer_release. None where
// no output is about labels.
lseg_status lseg_answer_labels(const struct lseg_answer *answer,
                               const char *const **labels,
                               size_t *count);

// Gives an answer back; NULL is nothing.
void lseg_answer_release(struct lseg_answer *answer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* LSEG_FAST_H */
