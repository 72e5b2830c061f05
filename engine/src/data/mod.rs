//! A track's data: from raw bytes to examples, batches and evaluation windows.
