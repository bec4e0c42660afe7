// A node of Isaac ROS that segments what its camera has put into the GPU's memory, and passes the mask on in it: no copy to the host, no
// wait on it. It is not compiled by this project's tests, which have no ROS and no NITROS; the calls of lseg_fast.h that it makes are
// those of tests/cuda.c, which runs on the virtual GPU. Names of NITROS are of isaac_ros_managed_nitros (release 3): hold them against
// the release that you have.

#include <lseg_fast.hpp>

#include <cuda_runtime.h>
#include <isaac_ros_managed_nitros/managed_nitros_publisher.hpp>
#include <isaac_ros_managed_nitros/managed_nitros_subscriber.hpp>
#include <isaac_ros_nitros_image_type/nitros_image.hpp>
#include <isaac_ros_nitros_image_type/nitros_image_builder.hpp>
#include <isaac_ros_nitros_image_type/nitros_image_view.hpp>
#include <rclcpp/rclcpp.hpp>

namespace nitros = nvidia::isaac_ros::nitros;

class Segmenter : public rclcpp::Node {
public:
    Segmenter() : Node("lseg"), engine_(lseg::options(nullptr, "cuda")) {
        engine_.set_labels({"floor", "wall", "person", "other"});
        cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
        masks_ = std::make_shared<nitros::ManagedNitrosPublisher<nitros::NitrosImage>>(
            this, "segmentation/mask", nitros::nitros_image_mono8_t::supported_type_name);
        images_ = std::make_shared<nitros::ManagedNitrosSubscriber<nitros::NitrosImageView>>(
            this, "image", nitros::nitros_image_bgr8_t::supported_type_name,
            [this](const nitros::NitrosImageView &view) { segment(view); });
    }

private:
    void segment(const nitros::NitrosImageView &view) {
        const auto width = static_cast<std::uint32_t>(view.GetWidth()), height = static_cast<std::uint32_t>(view.GetHeight());
        const std::size_t pitch = view.GetSizeInBytes() / height;
        const lseg_image image = lseg::on_cuda(lseg::image(LSEG_FORMAT_BGR8, width, height, view.GetGpuData(), pitch), stream_);
        const lseg::Tensor mask = engine_.segment_on_device(image, lseg::output(LSEG_MASK8));

        // NITROS owns what it publishes: the mask goes to memory of its own, behind the frame, on our stream.
        const lseg_tensor_info info = mask.info();
        void *published = nullptr;
        cudaMallocAsync(&published, info.bytes, stream_);
        mask.follow(stream_);
        cudaMemcpyAsync(published, info.address, info.bytes, cudaMemcpyDeviceToDevice, stream_);
        // Before release 4 a message carries no event: its reader needs the mask complete.
        cudaStreamSynchronize(stream_);
        std_msgs::msg::Header header;
        header.frame_id = view.GetFrameId();
        header.stamp.sec = view.GetTimestampSeconds();
        header.stamp.nanosec = view.GetTimestampNanoseconds();
        masks_->publish(nitros::NitrosImageBuilder()
                            .WithHeader(header)
                            .WithEncoding("mono8")
                            .WithDimensions(height, width)
                            .WithGpuData(published)
                            .Build());
    }

    lseg::Engine engine_;
    cudaStream_t stream_ = nullptr;
    std::shared_ptr<nitros::ManagedNitrosPublisher<nitros::NitrosImage>> masks_;
    std::shared_ptr<nitros::ManagedNitrosSubscriber<nitros::NitrosImageView>> images_;
};

int main(int count, char **arguments) {
    rclcpp::init(count, arguments);
    rclcpp::spin(std::make_shared<Segmenter>());
    rclcpp::shutdown();
}
