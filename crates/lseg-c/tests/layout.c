// Prints the sizes of the structs and where their fields lie: the ABI, which tests/abi.txt holds.

#include "check.h"

#define STRUCT(type) printf("%s %zu\n", #type, sizeof(type))
#define FIELD(type, field) printf("    %s %zu\n", #field, offsetof(type, field))

int main(void) {
    printf("LSEG_ABI %d\n", LSEG_ABI);
    STRUCT(lseg_options);
    FIELD(lseg_options, size);
    FIELD(lseg_options, model);
    FIELD(lseg_options, device);
    FIELD(lseg_options, context);
    FIELD(lseg_options, wait);
    FIELD(lseg_options, threads);
    FIELD(lseg_options, timeout_ms);
    FIELD(lseg_options, memory);
    STRUCT(lseg_image);
    FIELD(lseg_image, size);
    FIELD(lseg_image, format);
    FIELD(lseg_image, memory);
    FIELD(lseg_image, width);
    FIELD(lseg_image, height);
    FIELD(lseg_image, plane);
    FIELD(lseg_image, pitch);
    FIELD(lseg_image, cuda_stream);
    STRUCT(lseg_output);
    FIELD(lseg_output, size);
    FIELD(lseg_output, kind);
    FIELD(lseg_output, layout);
    FIELD(lseg_output, at);
    FIELD(lseg_output, normalise);
    FIELD(lseg_output, data);
    FIELD(lseg_output, bytes);
    FIELD(lseg_output, pitch);
    FIELD(lseg_output, colours);
    FIELD(lseg_output, alpha);
    FIELD(lseg_output, shape);
    STRUCT(lseg_tensor_info);
    FIELD(lseg_tensor_info, size);
    FIELD(lseg_tensor_info, address);
    FIELD(lseg_tensor_info, bytes);
    FIELD(lseg_tensor_info, shape);
    FIELD(lseg_tensor_info, element);
    FIELD(lseg_tensor_info, gpu);
    STRUCT(lseg_stream_options);
    FIELD(lseg_stream_options, size);
    FIELD(lseg_stream_options, policy);
    FIELD(lseg_stream_options, wait);
    FIELD(lseg_stream_options, queue);
    FIELD(lseg_stream_options, pool);
    FIELD(lseg_stream_options, stale_after_ms);
    FIELD(lseg_stream_options, priority);
    FIELD(lseg_stream_options, lock_memory);
    FIELD(lseg_stream_options, realtime_required);
    FIELD(lseg_stream_options, no_overlap);
    FIELD(lseg_stream_options, on_device);
    FIELD(lseg_stream_options, cpus);
    FIELD(lseg_stream_options, cpu_count);
    STRUCT(lseg_stats);
    FIELD(lseg_stats, size);
    FIELD(lseg_stats, pushed);
    FIELD(lseg_stats, done);
    FIELD(lseg_stats, replaced);
    FIELD(lseg_stats, stale);
    FIELD(lseg_stats, failed);
    FIELD(lseg_stats, in_flight);
    FIELD(lseg_stats, unread);
    FIELD(lseg_stats, restarts);
    FIELD(lseg_stats, age_p50_ns);
    FIELD(lseg_stats, age_p99_ns);
    FIELD(lseg_stats, age_max_ns);
    FIELD(lseg_stats, computed_p50_ns);
    FIELD(lseg_stats, computed_p99_ns);
    FIELD(lseg_stats, jitter_p50_ns);
    FIELD(lseg_stats, jitter_p99_ns);
    STRUCT(lseg_answer_info);
    FIELD(lseg_answer_info, size);
    FIELD(lseg_answer_info, sequence);
    FIELD(lseg_answer_info, stamp_ns);
    FIELD(lseg_answer_info, epoch);
    FIELD(lseg_answer_info, waited_ns);
    FIELD(lseg_answer_info, computed_ns);
    FIELD(lseg_answer_info, age_ns);
    FIELD(lseg_answer_info, status);
    FIELD(lseg_answer_info, reserved);
    STRUCT(lseg_status);
    CHECK(lseg_abi() == LSEG_ABI);
    return 0;
}
