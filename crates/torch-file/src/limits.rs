//! What one file may ask for. The limits are far above every real checkpoint; together they keep time and memory in
//! proportion to a file's size.

/// Bytes of the objects beside the tensors: a real file's take a few hundred KB.
pub const MAX_PICKLE: u64 = 64 << 20;

/// Steps of a pickle: a real one has a few hundred thousand.
pub const MAX_STEPS: usize = 8_000_000;

/// Objects of a pickle.
pub const MAX_OBJECTS: usize = 2_000_000;

/// The longest text of a pickle that is looked at: names are shorter. A pickle may refer to one long string a million times;
/// to look through it each time would take hours.
pub const MAX_TEXT: usize = 1024;

/// Entries of a state dict, and storages. More are no model's; a pickle can repeat one tensor millions of times in a few bytes
/// each.
pub const MAX_ENTRIES: usize = 100_000;

/// A tensor may be a parameter, and that be wrapped once more.
pub const MAX_PARAMETERS: usize = 2;

/// Dicts inside dicts are looked at to this depth.
pub const MAX_DEPTH: usize = 4;

/// Items that are looked at in search of a state dict, of one dict and of all of them together: a pickle can repeat one dict
/// millions of times.
pub const MAX_LOOKED_AT: usize = 100_000;

/// [Settings](crate::TorchFile::settings), with what is inside them.
pub const MAX_SETTINGS: usize = 10_000;

/// More dimensions than this are no network's.
pub const MAX_DIMENSIONS: usize = 16;

/// A tensor whose dimensions of stride 0 repeat its storage may have this many elements more than its storage.
pub const MAX_REPEATED: u64 = 1 << 22;

/// The tensors together may have this many times the file's bytes, and [`MAX_REPEATED_BYTES`] more: some share a storage, some
/// repeat one number. A file of kilobytes must not fill the memory of who loads it. What strides step over counts as well: it
/// is read, and a thousand tensors that each go through the file would read it a thousand times.
pub const MAX_SHARING: u64 = 4;

/// See [`MAX_SHARING`].
pub const MAX_REPEATED_BYTES: u64 = 256 << 20;

/// A zip's directory. That of a model of a thousand tensors takes 100 KB; a larger one than this is an attack on memory.
pub const MAX_DIRECTORY: u64 = 32 << 20;

/// A safetensors header. One of a thousand tensors takes 100 KB. (In this one fit 84,000.)
pub const MAX_HEADER: u64 = 4 << 20;

/// Entries of a safetensors file's `__metadata__`: what a file says beside its tensors is a handful.
pub const MAX_METADATA: usize = 1000;
