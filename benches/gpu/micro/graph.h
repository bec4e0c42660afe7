// Graphs of launches and copies.

#pragma once

#include "gpu.h"

namespace {

// An executable graph of what `record` puts into the stream.
class Graph {
public:
    Graph(const Gpu& gpu, const std::function<void()>& record) {
        check(cuda.cuStreamBeginCapture(gpu.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "cuStreamBeginCapture");
        try {
            record();
        } catch (...) {
            if (cuda.cuStreamEndCapture(gpu.stream, &graph) == CUDA_SUCCESS && graph) cuda.cuGraphDestroy(graph);
            throw;
        }
        check(cuda.cuStreamEndCapture(gpu.stream, &graph), "cuStreamEndCapture");
        check(cuda.cuGraphInstantiateWithFlags(&exec, graph, 0), "cuGraphInstantiate");
        check(cuda.cuGraphUpload(exec, gpu.stream), "cuGraphUpload");
        gpu.synchronize();
    }
    ~Graph() {
        cuda.cuGraphExecDestroy(exec);
        cuda.cuGraphDestroy(graph);
    }
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    void launch(const Gpu& gpu) const { check(cuda.cuGraphLaunch(exec, gpu.stream), "cuGraphLaunch"); }

    // "12", or "null" where the driver does not say.
    std::string programmatic_edges() const {
        size_t count = 0;
        if (!cuda.edges || cuda.edges(graph, nullptr, nullptr, nullptr, &count) != CUDA_SUCCESS) return "null";
        std::vector<CUgraphNode> from(count + 1), to(count + 1);
        std::vector<CUgraphEdgeData> data(count + 1);
        if (count > 0 && cuda.edges(graph, from.data(), to.data(), data.data(), &count) != CUDA_SUCCESS) return "null";
        size_t programmatic = 0;
        for (size_t i = 0; i < count; i++) programmatic += data[i].type == CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC;
        return std::to_string(programmatic);
    }

private:
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
};

} // namespace
