//! The driver's functions, as C calls them.
