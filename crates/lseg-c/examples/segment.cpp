// What is how large in a photo: segment PHOTO.ppm LABEL LABEL …

#include <lseg_fast.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

int main(int count, char **arguments) try {
    const std::vector<std::string> labels(arguments + std::min(count, 2), arguments + count);
    std::ifstream file(count > 1 ? arguments[1] : "", std::ios::binary);
    std::string magic;
    std::uint32_t width = 0, height = 0, most = 0;
    if (!(file >> magic >> width >> height >> most) || magic != "P6" || most != 255 || labels.empty()) {
        std::fprintf(stderr, "usage: segment PHOTO.ppm LABEL LABEL ...\n");
        return 2;
    }
    std::vector<char> rgb(std::size_t{3} * width * height);
    file.get();
    if (!file.read(rgb.data(), static_cast<std::streamsize>(rgb.size()))) return 2;

    lseg::Engine engine;
    engine.set_labels(labels);
    const auto mask = engine.mask16(lseg::image(LSEG_FORMAT_RGB8, width, height, rgb.data()));

    for (std::size_t label = 0; label < labels.size(); label++) {
        const auto seen = std::count(mask.begin(), mask.end(), label);
        std::printf("%s: %.1f %%\n", labels[label].c_str(), 100.0 * static_cast<double>(seen) / static_cast<double>(mask.size()));
    }
    return 0;
} catch (const lseg::Error &error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
