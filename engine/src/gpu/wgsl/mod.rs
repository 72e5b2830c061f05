//! WGSL functions that kernels share: the number system, elementary functions, sums.
//!
//! Each is the same steps as its Rust namesake in [`crate::number`], [`crate::math`], [`crate::reference`] or
//! [`crate::random`]. A float operation whose result another float operation reads goes through [`NUMBER`]'s `guard`, an
//! exclusive or with a zero that no compiler knows: so none can fuse, reassociate or drop a step. `canon` guards as well.
//!
//! *Invariant:* only operations that every device rounds alike: `+ - *` of floats, conversion of integers below 2^24, and
//! integer operations.

/// Texts of functions; see [`used_by`].
const ALL: [&str; 5] = [
    include_str!("number.wgsl"),
    include_str!("math.wgsl"),
    include_str!("elements.wgsl"),
    include_str!("random.wgsl"),
    include_str!("sums.wgsl"),
];

/// The functions that a text uses, and those that they use, each before its first use.
pub(super) fn used_by(text: &str) -> String {
    let functions: Vec<(&str, &str)> = ALL.iter().flat_map(|text| functions(text)).collect();
    let mut needed = vec![false; functions.len()];
    // A function uses only functions that stand before it.
    for at in (0..functions.len()).rev() {
        let call = format!("{}(", functions[at].0);
        let calls = |text: &str| {
            text.match_indices(&call)
                .any(|(i, _)| !text[..i].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
        };
        needed[at] =
            calls(text) || functions[at + 1..].iter().zip(&needed[at + 1..]).any(|(f, &used)| used && calls(f.1));
    }
    functions.iter().zip(needed).filter(|&(_, needed)| needed).map(|((_, text), _)| format!("{text}\n")).collect()
}

/// Name and text of each function; one ends where the next line that starts with `fn` is.
fn functions(text: &str) -> Vec<(&str, &str)> {
    let starts: Vec<usize> = text.match_indices("\nfn ").map(|(at, _)| at + 1).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let named = |(start, end): (&usize, usize)| {
        let whole = text[*start..end].trim_end();
        // Comments before the next function are not part of this one.
        let whole = whole.rfind('}').map_or(whole, |brace| &whole[..=brace]);
        let name = whole["fn ".len()..].split('(').next().unwrap_or_default();
        (name, whole)
    };
    starts.iter().zip(ends).map(named).collect()
}
