//! The engine: a model on a device, a list of labels, and one planned session per (size, labels, outputs).
