# The menu: `just NAME`. Without `just`, each line runs as it stands.

# Format everything.
fmt:
    cargo fmt --all

# Lints, warnings denied.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Every test; installs what they need.
test:
    cargo xtask test

# The exactness suite at length: 10,000 random graphs; then 64-bit ARM under emulation.
exact:
    cargo xtask exact
    cargo xtask exact --arm

# Write the golden vectors again after a deliberate change of bits or bytes.
vectors:
    cargo xtask vectors

# A whole network on this machine.
demo:
    cargo run --release -- demo

# How fast this machine is: products, training steps, memory, price list.
bench:
    cargo run --release -- bench --ops

# Licences, sources, bans.
deny:
    cargo deny check bans licenses sources

# Write the operations of the manual again after a change of their rows.
manual:
    cargo xtask manual

# What CI runs.
ci:
    bash .ci/run
