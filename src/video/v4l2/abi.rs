//! Video4Linux as the kernel has it on 64-bit machines: `linux/videodev2.h`, of which this is what a camera needs. Sizes and numbers
//! are the header's own (Linux 6.1), and the same on x86-64, AArch64 and RISC-V.

use bytemuck::{Pod, Zeroable};

/// `struct v4l2_capability`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Capability {
    pub driver: [u8; 16],
    pub card: [u8; 32],
    pub bus_info: [u8; 32],
    pub version: u32,
    pub capabilities: u32,
    pub device_caps: u32,
    pub reserved: [u32; 3],
}

/// `struct v4l2_fmtdesc`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct FormatDescription {
    pub index: u32,
    pub kind: u32,
    pub flags: u32,
    pub description: [u8; 32],
    pub pixelformat: u32,
    pub mbus_code: u32,
    pub reserved: [u32; 3],
}

/// `struct v4l2_pix_format`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PixFormat {
    pub width: u32,
    pub height: u32,
    pub pixelformat: u32,
    pub field: u32,
    pub bytesperline: u32,
    pub sizeimage: u32,
    pub colorspace: u32,
    /// [`PRIV_MAGIC`] where what follows is meant.
    pub private: u32,
    pub flags: u32,
    pub ycbcr_enc: u32,
    pub quantization: u32,
    pub xfer_func: u32,
}

/// `struct v4l2_format`, whose union begins at 8 because some of its members have pointers.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct FormatOf {
    pub kind: u32,
    pub padding: u32,
    pub pix: PixFormat,
    pub rest: [[u32; 19]; 2],
}

/// `struct v4l2_streamparm` with `struct v4l2_captureparm` in its union.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct StreamParameters {
    pub kind: u32,
    pub capability: u32,
    pub capturemode: u32,
    /// Seconds, in so many of which one frame comes.
    pub numerator: u32,
    pub denominator: u32,
    pub extendedmode: u32,
    pub readbuffers: u32,
    pub rest: [[u32; 22]; 2],
}

/// `struct v4l2_requestbuffers`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct RequestBuffers {
    pub count: u32,
    pub kind: u32,
    pub memory: u32,
    pub capabilities: u32,
    pub flags: u32,
}

/// `struct v4l2_buffer`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Buffer {
    pub index: u32,
    pub kind: u32,
    pub bytesused: u32,
    pub flags: u32,
    pub field: u32,
    pub padding: u32,
    pub seconds: i64,
    pub microseconds: i64,
    pub timecode: [u32; 4],
    pub sequence: u32,
    pub memory: u32,
    /// Of mapped memory: where `mmap` finds it.
    pub offset: u64,
    pub length: u32,
    pub reserved: [u32; 3],
}

const _: () = {
    assert!(size_of::<Capability>() == 104);
    assert!(size_of::<FormatDescription>() == 64);
    assert!(size_of::<PixFormat>() == 48);
    assert!(size_of::<FormatOf>() == 208);
    assert!(size_of::<StreamParameters>() == 204);
    assert!(size_of::<RequestBuffers>() == 20);
    assert!(size_of::<Buffer>() == 88);
    assert!(std::mem::offset_of!(Capability, device_caps) == 88);
    assert!(std::mem::offset_of!(FormatDescription, pixelformat) == 44);
    assert!(std::mem::offset_of!(FormatOf, pix) == 8);
    assert!(std::mem::offset_of!(StreamParameters, numerator) == 12);
    assert!(std::mem::offset_of!(Buffer, seconds) == 24);
    assert!(std::mem::offset_of!(Buffer, sequence) == 56);
    assert!(std::mem::offset_of!(Buffer, offset) == 64);
    assert!(std::mem::offset_of!(Buffer, length) == 72);
};

/// As `_IOR`, `_IOW` and `_IOWR` of `asm-generic/ioctl.h`: direction, size, 'V', number.
const fn request(direction: u32, number: u32, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | (b'V' as u32) << 8 | number
}

const WRITES: u32 = 1;
const READS: u32 = 2;
const BOTH: u32 = WRITES | READS;

/// A request, and what it is called.
#[derive(Clone, Copy)]
pub struct Request(pub u32, pub &'static str);

pub const QUERYCAP: Request = Request(request(READS, 0, size_of::<Capability>()), "VIDIOC_QUERYCAP");
pub const ENUM_FMT: Request = Request(request(BOTH, 2, size_of::<FormatDescription>()), "VIDIOC_ENUM_FMT");
pub const G_FMT: Request = Request(request(BOTH, 4, size_of::<FormatOf>()), "VIDIOC_G_FMT");
pub const S_FMT: Request = Request(request(BOTH, 5, size_of::<FormatOf>()), "VIDIOC_S_FMT");
pub const REQBUFS: Request = Request(request(BOTH, 8, size_of::<RequestBuffers>()), "VIDIOC_REQBUFS");
pub const QUERYBUF: Request = Request(request(BOTH, 9, size_of::<Buffer>()), "VIDIOC_QUERYBUF");
pub const QBUF: Request = Request(request(BOTH, 15, size_of::<Buffer>()), "VIDIOC_QBUF");
pub const DQBUF: Request = Request(request(BOTH, 17, size_of::<Buffer>()), "VIDIOC_DQBUF");
pub const STREAMON: Request = Request(request(WRITES, 18, size_of::<i32>()), "VIDIOC_STREAMON");
pub const STREAMOFF: Request = Request(request(WRITES, 19, size_of::<i32>()), "VIDIOC_STREAMOFF");
pub const G_PARM: Request = Request(request(BOTH, 21, size_of::<StreamParameters>()), "VIDIOC_G_PARM");
pub const S_PARM: Request = Request(request(BOTH, 22, size_of::<StreamParameters>()), "VIDIOC_S_PARM");

// What the header's own macros give for them.
const _: () = {
    assert!(QUERYCAP.0 == 0x8068_5600 && ENUM_FMT.0 == 0xc040_5602 && G_FMT.0 == 0xc0d0_5604 && S_FMT.0 == 0xc0d0_5605);
    assert!(REQBUFS.0 == 0xc014_5608 && QUERYBUF.0 == 0xc058_5609 && QBUF.0 == 0xc058_560f && DQBUF.0 == 0xc058_5611);
    assert!(
        STREAMON.0 == 0x4004_5612 && STREAMOFF.0 == 0x4004_5613 && G_PARM.0 == 0xc0cc_5615 && S_PARM.0 == 0xc0cc_5616
    );
};

/// `V4L2_BUF_TYPE_VIDEO_CAPTURE`: the `kind` of all structs here.
pub const VIDEO_CAPTURE: u32 = 1;
/// `V4L2_MEMORY_MMAP`.
pub const MEMORY_MMAP: u32 = 1;

pub const CAP_VIDEO_CAPTURE: u32 = 1;
pub const CAP_VIDEO_CAPTURE_MPLANE: u32 = 0x1000;
pub const CAP_STREAMING: u32 = 0x0400_0000;
pub const CAP_DEVICE_CAPS: u32 = 0x8000_0000;
/// Of [`StreamParameters::capability`]: the time of a frame can be set.
pub const CAP_TIMEPERFRAME: u32 = 0x1000;

pub const BUF_FLAG_ERROR: u32 = 0x40;
pub const BUF_FLAG_TIMESTAMP_MASK: u32 = 0xe000;
pub const BUF_FLAG_TIMESTAMP_MONOTONIC: u32 = 0x2000;

/// `V4L2_PIX_FMT_PRIV_MAGIC`.
pub const PRIV_MAGIC: u32 = 0xfeed_cafe;

pub const FIELD_NONE: u32 = 1;
/// Two fields that follow each other in one frame, or come one by one.
pub const FIELDS_APART: [u32; 3] = [5, 6, 7];

pub const COLORSPACE_SMPTE240M: u32 = 2;
pub const COLORSPACE_REC709: u32 = 3;
pub const COLORSPACE_JPEG: u32 = 7;
pub const COLORSPACE_BT2020: u32 = 10;
pub const COLORSPACE_DCI_P3: u32 = 12;

pub const YCBCR_ENC_DEFAULT: u32 = 0;
pub const YCBCR_ENC_601: u32 = 1;
pub const YCBCR_ENC_709: u32 = 2;
pub const YCBCR_ENC_XV601: u32 = 3;
pub const YCBCR_ENC_XV709: u32 = 4;
pub const YCBCR_ENC_SYCC: u32 = 5;
pub const YCBCR_ENC_BT2020: u32 = 6;
pub const YCBCR_ENC_SMPTE240M: u32 = 8;

pub const QUANTIZATION_DEFAULT: u32 = 0;
pub const QUANTIZATION_LIM_RANGE: u32 = 2;

/// A format by its four letters.
pub const fn fourcc(letters: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*letters)
}
