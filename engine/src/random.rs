//! Counter-based random numbers: Threefry-2x32, keyed by seed, kind and name.
