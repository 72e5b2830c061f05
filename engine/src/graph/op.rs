//! The operations a graph is made of. Every float node ends in `canon`; composite operations are defined by
//! their expansion into primitives, `canon` after each (`docs/spec/arithmetic.md` lists them).

/// Element type. Masks are `F32` holding 0 or 1; `I32` carries token ids and class labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float in the closed number system.
    F32,
    /// 32-bit signed integer: indices, tokens, labels (-1 is padding).
    I32,
}

/// How a parameter starts. Numbers are `f32` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Init {
    /// Every element has this value.
    Constant(u32),
    /// Normal with mean 0 and this standard deviation, from stream `init` keyed by the parameter's name.
    Normal(u32),
    /// Uniform on [-bound, bound).
    Uniform(u32),
}

/// Distribution of a random node: fresh each step, keyed by its stream name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Random {
    /// Uniform on [0, 1).
    Uniform,
    /// Standard normal.
    Normal,
}

/// Elementwise with one operand (f32 -> f32 but for `ToFloat`, i32 -> f32, and `ToInt`, f32 -> i32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unary {
    /// -x (0 stays +0).
    Neg,
    /// e^x.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// 1 / sqrt(x).
    Rsqrt,
    /// 1 / x.
    Recip,
    /// Hyperbolic tangent.
    Tanh,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// Error function.
    Erf,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// max(x, 0).
    Relu,
    /// |x|.
    Abs,
    /// -1, 0 or 1.
    Sign,
    /// Largest integer not above x.
    Floor,
    /// Nearest integer, ties to even.
    Round,
    /// Round to bfloat16, ties to even.
    RoundBf16,
    /// Integer (|x| < 2^24, clamped) to float.
    ToFloat,
    /// Nearest integer, ties to even, clamped to -2^24 to 2^24, as I32.
    ToInt,
}

/// Elementwise with two operands, NumPy broadcasting. `Lt`, `Le`, `Eq` give a 0/1 mask and also take two `I32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// a + b.
    Add,
    /// a - b.
    Sub,
    /// a * b.
    Mul,
    /// a / b.
    Div,
    /// Larger; ties give the first operand its gradient.
    Max,
    /// Smaller; ties give the first operand its gradient.
    Min,
    /// a < b.
    Lt,
    /// a <= b.
    Le,
    /// a == b.
    Eq,
}

/// Composite operations along the last axis (length n).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowOp {
    /// (x) -> softmax(x).
    Softmax,
    /// (y, dy) -> y * (dy - sum(dy * y)).
    SoftmaxGrad,
    /// (x) -> (x - max) - log(sum(exp(x - max))).
    LogSoftmax,
    /// (y, dy) -> dy - exp(y) * sum(dy).
    LogSoftmaxGrad,
    /// (x) -> x * rsqrt(mean(x*x) + eps); eps as f32 bits.
    RmsNorm(u32),
    /// (x, dy), y = x*r: r * (dy - y * mean(dy * y)).
    RmsNormGrad(u32),
    /// (x) -> (x - mean) * rsqrt(var + eps), two-pass variance.
    LayerNorm(u32),
    /// (x, dy), y normalised: r * ((dy - mean(dy)) - y * mean(dy * y)).
    LayerNormGrad(u32),
    /// (logits [.., V], ids [..]) -> loss [..]: log(z) - (x_y - m); 0 where the id is -1.
    CrossEntropy,
    /// (logits [.., V], ids [..], g [..]) -> (e * recip(z) - onehot) * g; 0 where the id is -1.
    CrossEntropyGrad,
}

/// Scaled dot-product attention. q [B,H,T,D]; k, v [B,Hk,S,D], Hk divides H; T == S when causal or windowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attention {
    /// Key index must not exceed the query index.
    pub causal: bool,
    /// Only keys with query - key < window (0 = no window); implies causal.
    pub window: u32,
    /// Factor on q·k, f32 bits.
    pub scale: u32,
    /// c * tanh(s / c) on the scores, f32 bits; 0 = none.
    pub soft_cap: u32,
}

/// Which input of attention a gradient node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttentionInput {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
}

/// How a kernel [O, C/groups, KH, KW] slides over x [N, C, H, W]; pairs are along H and W, as in PyTorch.
///
/// Output pixel i and kernel element k of an axis meet the input at i·stride + k·dilation - padding; outside there are
/// zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// Input pixels from one output pixel to the next.
    pub stride: [u32; 2],
    /// Zeros on each side.
    pub padding: [u32; 2],
    /// Input pixels from one kernel element to the next.
    pub dilation: [u32; 2],
    /// Channels are cut into this many groups, in order; outputs of a group see the inputs of that group.
    pub groups: u32,
}

/// What a node computes. Inputs are in the order written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Batch of examples: 0 is the model's input, 1 the target.
    Input(u8),
    /// Parameter of the program, by index.
    Param(u32),
    /// Optimiser state of the program, by index.
    State(u32),
    /// Scalar taken from table i at the current step.
    Table(u32),
    /// Every element is this f32 (bits).
    Full(u32),
    /// 0, 1, 2, ... along the only axis, I32.
    Arange,
    /// Every element is this i32.
    FullInt(i32),
    /// Fresh random numbers each step, keyed by the stream name.
    Random(Random, String),
    /// (a) elementwise.
    Unary(Unary),
    /// (a, b) elementwise with broadcasting.
    Binary(Binary),
    /// (c, a, b): a where c != 0, else b; broadcasting. a and b are both F32 or both I32.
    Where,
    /// Identity that passes no gradient.
    StopGradient,
    /// Sum over the given axes (ascending), kept with length 1.
    Sum(Vec<u8>),
    /// Maximum over the given axes (ascending), kept with length 1.
    Max(Vec<u8>),
    /// Index (I32) of the first maximum of the last axis, kept with length 1.
    ArgMax,
    /// (a, b): rank 2, or rank 3 with equal leading axis. `ta`, `tb`: operand is stored transposed (last two axes).
    MatMul {
        /// a is [.., k, m].
        ta: bool,
        /// b is [.., n, k].
        tb: bool,
    },
    /// (q, k, v) -> [B,H,T,D].
    Attention(Attention),
    /// (q, k, v, y, dy) -> gradient of one input.
    AttentionGrad(Attention, AttentionInput),
    /// Along the last axis; see [`RowOp`].
    Row(RowOp),
    /// (x [.., T, D]): rotary position embedding over the T axis, halves paired (i, i + D/2); base as f32 bits.
    Rope {
        /// Base of the geometric frequencies, f32 bits.
        base: u32,
        /// The inverse rotation: its gradient.
        inverse: bool,
    },
    /// (table [V, C], ids [..] I32) -> [.., C]; a row outside the table is zero.
    Embedding,
    /// (ids [..] I32, dy [.., C]) -> [V, C], added in ascending position into zeros.
    EmbeddingGrad(u32),
    /// (x [.., n], ids [..] I32) -> [..]: one element of each row; zero when out of range.
    Take,
    /// (ids [..], dy [..]) -> [.., n], zeros but for the taken element.
    TakeGrad(u32),
    /// Same elements, new shape.
    Reshape,
    /// Axes reordered: output axis i is input axis perm[i].
    Permute(Vec<u8>),
    /// NumPy broadcasting to the node's shape.
    BroadcastTo,
    /// Elements start..start+len of one axis.
    Slice {
        /// Axis.
        axis: u8,
        /// First index taken; the length is the node's.
        start: u32,
    },
    /// Zeros around one axis: the gradient of a slice.
    Pad {
        /// Axis.
        axis: u8,
        /// Zeros before.
        before: u32,
        /// Zeros after.
        after: u32,
    },
    /// Inputs joined along an axis.
    Concat(u8),
    /// (x [N, C, H, W], w [O, C/groups, KH, KW]) -> [N, O, OH, OW].
    Conv2d(Conv2d),
    /// (w, dy) -> gradient of x; its size is the node's.
    Conv2dInputGrad(Conv2d),
    /// (x, dy) -> gradient of w; its size is the node's.
    Conv2dWeightGrad(Conv2d),
    /// Sums along an axis of all elements up to each one.
    CumSum {
        /// Axis.
        axis: u8,
        /// From each element to the last one instead: the gradient.
        reverse: bool,
    },
    /// (x, ids I32), shapes equal but along this axis: the element that each id names along it; zero when out of range.
    Gather(u8),
    /// (ids I32, src), of one shape: zeros, to which each element of src is added where its id says, in ascending
    /// position.
    ScatterAdd {
        /// Axis along which ids count.
        axis: u8,
        /// Length of that axis of the result.
        len: u32,
    },
    /// Indices (I32) of the k largest elements of the last axis, largest first, ties by index.
    TopK(u32),
}
