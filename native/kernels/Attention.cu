// Causal attention over packed sequences. Letters: T tokens, N query heads, K key/value heads, H head dim, G = N/K.
//   forward   s_ij = q_i·k_j / √H, o_i = Σ_{j≤i} p_ij v_j, p_ij = exp(s_ij − lse_i), lse_i = log Σ_{j≤i} exp(s_ij)
//   backward  dv_j = Σ p_ij do_i, ds_ij = p_ij (do_i·v_j − δ_i), δ_i = do_i·o_i, dq_i = Σ ds_ij k_j / √H,
//             dk_j = Σ ds_ij q_i / √H
//   paged     forward of some rows of each sequence against keys and values in pages; decode: of one row of each
// FlashAttention-2: Dao 2023, arXiv:2307.08691; online softmax: Milakov and Gimelshein 2018, arXiv:1805.02867.
//
// Shapes: qkv and dqkv [T, (N + 2K)·H], o and dO [T, N·H] bf16; lse and delta [T, N] fp32, lse a natural logarithm. H
// is a multiple of 8 up to 128; in shared memory it is padded with zeros to a multiple of 16. Saved for backward: qkv,
// o, lse.
//
// Parallelisation. Every product is mma.m16n8k16 with fp32 sums; a warp owns 16 (or 32) rows of the fixed side of the
// score tile and all its columns, so the scores become the A operand of the next product without leaving their
// registers, and no score touches shared memory. Forward and dQ: one block per tile of queries and query head, a loop
// over the tiles of keys. dK/dV: one block per tile of keys and key/value head, a loop over its G query heads in order
// and their tiles of queries; the scores are computed transposed. Sums have a fixed order and there are no atomics: two
// runs give equal bits, and the bits of a sequence do not depend on its batch. The tiles come from a list made on the
// host, most work first; entries of length 0 end at once, so a graph can have a fixed grid.
//
// Flops. Useful pairs (i, j): A = Σ len (len + 1) / 2. Forward 4·H·N·A. Backward runs 7 products instead of 5 (scores
// and dP once for dK/dV and once for dQ): 14·H·N·A executed, 3.5 × forward, counted by convention as 10·H·N·A = 2.5 ×.
// In return dQ needs neither fp32 sums in memory nor an order between blocks. Floor in bytes: qkv read, o and lse
// written once; keys and values are read again from L2 by each of the G heads and each tile of queries.
//
// Prediction, NOT measured (no GPU was at hand when this was written). An A100 SM does 1,024 bf16 FMA a cycle, an
// mma.m16n8k16 (2,048) in 2, and reads 128 bytes of shared memory a cycle. Bytes read per mma at H = 128 with the
// default tiles, and so cycles:
//   forward  QKᵀ 256 (A 2 × 512 and B 2 × 512 for 8 mma), PV 128: mean 192 = 1.5 cycles; bound by the tensor cores
//   dQ       QKᵀ 256 (q in registers), dO·Vᵀ 384, dS·K 256: mean 299 = 2.3 cycles; bound by shared memory at 86 %
//   dK/dV    the scores and dP 384, dV and dK 256: mean 320 = 2.5 cycles; bound by shared memory at 80 %
// Beside the products a step of forward costs a warp 256 cycles of ex2 and about as many of fp32 instructions against
// 1,024 of mma; the two blocks (8 warps) of an SM overlap them. Expected on A100 (312 TFLOP/s), long sequences, H of
// 128: forward 180 TFLOP/s; backward 0.6 · 0.83 · 312 = 155 executed, 110 counted as 2.5 ×. At lengths near 500 the
// diagonal leaves a quarter of forward's issue slots and a seventh of backward's empty. On H100 shared memory alone
// allows forward 630 TFLOP/s (1.5 cycles an mma); expected is what FlashAttention-2 reaches there with the same
// instructions, 260 to 300 at lengths of 1k to 2k. AttentionHopper.cu is the path for H = 64 and 128 there. Decode: the
// bytes of the cache at 80 % of the copy bandwidth, once rows · K · splits fill the SMs twice.
// Paged prompts: 256 bytes an mma at H = 128 (q in registers, 16 rows a warp), so 2 cycles: what the tensor cores take on
// A100, and on H100, where shared memory bounds both, three quarters of forward's rate. What looking up pages costs is
// not known.
// Registers at H = 128 (NVRTC 12.4, sm_80 / sm_90a): forward 254 / 232, dQ 224 / 228, dK/dV 242 / 254, paged
// 203/207, its decode 168/184, no spills; with 48 to 69 KB of shared memory that is two blocks an SM.
//
// Rounding points: p and ds to bf16 before their products, o, dq, dk, dv at the store. All else is fp32; exp is
// ex2.approx.
#include "z1.cuh"

#ifndef kHeadDim
#define kHeadDim 128       // H
#endif
#ifndef kTileM
#define kTileM 128         // forward: queries of a block, 64 or 128
#endif
#ifndef kTileN
#define kTileN 32          // forward: keys of a step
#endif
#ifndef kStages
#define kStages 4          // forward: tiles of keys or values in the ring
#endif
#ifndef kStepM
#define kStepM 32          // dK/dV: queries of a step
#endif
#ifndef kStepN
#define kStepN 32          // dQ: keys of a step
#endif
#ifndef kBackwardStages
#define kBackwardStages 2  // steps in the ring
#endif

namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kBackwardTile = 16 * kWarps;   // the fixed side of both backward kernels
constexpr int kDim = (kHeadDim + 15) / 16 * 16;
constexpr int kChunks = kDim / 8;            // 16-byte chunks of a row
constexpr float kLog2E = 1.4426950408889634f;

static_assert(kHeadDim % 8 == 0 && kHeadDim <= 128, "16-byte reads; sums that fit into registers");
static_assert(kTileM == 64 || kTileM == 128, "16 or 32 rows a warp");
static_assert(kTileN % 16 == 0 && kStepM % 16 == 0 && kStepN % 16 == 0, "one ldmatrix.x4 covers 16 columns");
static_assert(kStages >= 2 && kBackwardStages >= 2, "one tile is read while the next one arrives");

// One entry of a tile list: the sequence's first token, the tile's first row in it, the sequence's length (0: no tile).
struct AttentionTile {
  int start, first, length, unused;
};

// Rows of one head in shared memory. The eight rows that one ldmatrix reads must lie in eight different groups of four
// banks: with a multiple of eight chunks a row, chunk c of row r lies at c ^ (r mod 8); otherwise a row is one chunk
// longer, an odd number of chunks.
template <int kRows>
struct Tile {
  static constexpr bool kSwizzle = kChunks % 8 == 0;
  static constexpr int kStride = kSwizzle ? kDim : kDim + 8;
  bf16 data[kRows * kStride];

  __device__ __forceinline__ bf16* at(int row, int chunk) {
    return data + row * kStride + (kSwizzle ? chunk ^ (row & 7) : chunk) * 8;
  }
};

// Rows 0 to rows − 1 of one head; the rows after them and the columns from H on become zero.
template <int kRows>
__device__ __forceinline__ void load_tile(Tile<kRows>& to, const bf16* from, int64_t stride, int rows) {
  constexpr int kTotal = kRows * kChunks;
#pragma unroll
  for (int i = 0; i < (kTotal + kThreads - 1) / kThreads; i++) {
    const int at = i * kThreads + int(threadIdx.x);
    if (kTotal % kThreads != 0 && at >= kTotal) break;
    const int row = at / kChunks, chunk = at % kChunks;
    const bool valid = row < rows && chunk * 8 < kHeadDim;
    ptx::cp_async_16_zfill(to.at(row, chunk), valid ? from + row * stride + chunk * 8 : from, valid);
  }
}

// A operand: rows row .. row + 15, columns 16k .. 16k + 15.
template <int kRows>
__device__ __forceinline__ void load_a(uint32_t (&a)[4], Tile<kRows>& tile, int row, int k) {
  const int lane = threadIdx.x % kWarp;
  ptx::ldmatrix_x4(a, tile.at(row + lane % 16, 2 * k + lane / 16));
}

// B operands of two n-blocks, n = rows row .. row + 15 of the tile, k = columns 16k .. 16k + 15.
template <int kRows>
__device__ __forceinline__ void load_b(uint32_t (&b)[4], Tile<kRows>& tile, int row, int k) {
  const int lane = threadIdx.x % kWarp;
  ptx::ldmatrix_x4(b, tile.at(row + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
}

// B operands of two n-blocks, k = rows row .. row + 15 of the tile, n = columns 16n .. 16n + 15.
template <int kRows>
__device__ __forceinline__ void load_b_trans(uint32_t (&b)[4], Tile<kRows>& tile, int row, int n) {
  const int lane = threadIdx.x % kWarp;
  ptx::ldmatrix_x4_trans(b, tile.at(row + lane % 16, 2 * n + lane / 16));
}

// Two products that share one load of two B operands.
__device__ __forceinline__ void mma_pair(
    float (&left)[4], float (&right)[4], const uint32_t (&a)[4], const uint32_t (&b)[4]) {
  const uint32_t b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
  ptx::mma_m16n8k16(left, a, b0);
  ptx::mma_m16n8k16(right, a, b1);
}

// The accumulators of 16 columns as an A operand: lane (g, t) holds rows g and g + 8, columns 2t and 2t + 1 of each 8
// in both.
__device__ __forceinline__ void to_a(uint32_t (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = ptx::pack_bf16(left[0], left[1]);
  a[1] = ptx::pack_bf16(left[2], left[3]);
  a[2] = ptx::pack_bf16(right[0], right[1]);
  a[3] = ptx::pack_bf16(right[2], right[3]);
}

template <int kBlocks>
__device__ __forceinline__ void clear(float (&d)[kBlocks][4]) {
#pragma unroll
  for (int n = 0; n < kBlocks; n++) {
#pragma unroll
    for (int e = 0; e < 4; e++) d[n][e] = 0.f;
  }
}

// d += columns 16k .. 16k + 15 of 16 rows times those of all rows of b.
template <int kRows>
__device__ __forceinline__ void add_scores(float (&d)[kRows / 8][4], const uint32_t (&a)[4], Tile<kRows>& b, int k) {
#pragma unroll
  for (int n = 0; n < kRows / 16; n++) {
    uint32_t fb[4];
    load_b(fb, b, 16 * n, k);
    mma_pair(d[2 * n], d[2 * n + 1], a, fb);
  }
}

// d = 16 rows, whose A operands are held in registers, times all rows of b, transposed.
template <int kRows>
__device__ __forceinline__ void scores(float (&d)[kRows / 8][4], const uint32_t (&a)[kDim / 16][4], Tile<kRows>& b) {
  clear(d);
#pragma unroll
  for (int k = 0; k < kDim / 16; k++) add_scores(d, a[k], b, k);
}

// d = rows row .. row + 15 of a times all rows of b, transposed.
template <int kRowsA, int kRowsB>
__device__ __forceinline__ void scores(float (&d)[kRowsB / 8][4], Tile<kRowsA>& a, int row, Tile<kRowsB>& b) {
  clear(d);
#pragma unroll
  for (int k = 0; k < kDim / 16; k++) {
    uint32_t fa[4];
    load_a(fa, a, row, k);
    add_scores(d, fa, b, k);
  }
}

// d += p · b, p [16, rows of b] in registers.
template <int kRows>
__device__ __forceinline__ void add_product(
    float (&d)[kDim / 8][4], const uint32_t (&p)[kRows / 16][4], Tile<kRows>& b) {
#pragma unroll
  for (int k = 0; k < kRows / 16; k++) {
#pragma unroll
    for (int n = 0; n < kDim / 16; n++) {
      uint32_t fb[4];
      load_b_trans(fb, b, 16 * k, n);
      mma_pair(d[2 * n], d[2 * n + 1], p[k], fb);
    }
  }
}

// 16 rows of accumulators, rounded, by way of the warp's own rows of a tile, so that each store is 16 bytes. rows may
// be ≤ 0.
template <int kRows>
__device__ __forceinline__ void store_rows(
    const float (&d)[kDim / 8][4], float upper, float lower, Tile<kRows>& tile, int row, bf16* to, int64_t stride,
    int rows) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  ptx::sync_warp();   // the last reads of these rows, by other lanes
#pragma unroll
  for (int n = 0; n < kDim / 8; n++) {
    *reinterpret_cast<uint32_t*>(tile.at(row + g, n) + 2 * t) = ptx::pack_bf16(d[n][0] * upper, d[n][1] * upper);
    *reinterpret_cast<uint32_t*>(tile.at(row + g + 8, n) + 2 * t) = ptx::pack_bf16(d[n][2] * lower, d[n][3] * lower);
  }
  ptx::sync_warp();
#pragma unroll
  for (int i = 0; i < (16 * kChunks) / kWarp; i++) {
    const int at = i * kWarp + lane, r = at / kChunks, chunk = at % kChunks;
    if (r < rows && chunk * 8 < kHeadDim) Vec8::load(tile.at(row + r, chunk)).store(to + r * stride + chunk * 8);
  }
}

// Scores that a query may not see become −∞. ahead = first column − first row; rows are queries and columns keys, or
// the other way round.
template <bool kTransposed, int kBlocks>
__device__ __forceinline__ void mask(float (&s)[kBlocks][4], int ahead) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int n = 0; n < kBlocks; n++) {
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int row = g + e / 2 * 8, column = ahead + 8 * n + 2 * t + e % 2;
      if (kTransposed ? row > column : column > row) s[n][e] = -kInfinity;
    }
  }
}

__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, ptx::shfl_xor(x, 1));
  return fmaxf(x, ptx::shfl_xor(x, 2));
}

__device__ __forceinline__ float quad_sum(float x) {
  x += ptx::shfl_xor(x, 1);
  return x + ptx::shfl_xor(x, 2);
}

// Running softmax of 16 rows: the probabilities of this step replace the scores s; max and sum (per lane, over its own
// columns) and d follow. Any max will do as long as nothing overflows: it is raised, and d rescaled, only when a row
// exceeds the one kept by more than 8 in the exponent of two. Probabilities then reach 2^8, which costs no accuracy in
// bf16 nor in the fp32 sums. All rows of the warp are raised together, or, with kByRow, each by its own scores alone: a
// row that is not raised is multiplied by exactly 1.
template <bool kByRow = false, int kBlocks>
__device__ __forceinline__ void softmax_step(
    float (&s)[kBlocks][4], float (&max)[2], float (&sum)[2], float (&d)[kDim / 8][4], float scale_log2) {
  float top[2];
  bool raise[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    top[half] = max[half];
#pragma unroll
    for (int n = 0; n < kBlocks; n++) top[half] = fmaxf(top[half], fmaxf(s[n][2 * half], s[n][2 * half + 1]));
    top[half] = quad_max(top[half]);
    raise[half] = (top[half] - max[half]) * scale_log2 > 8.f;   // the first step: ∞ > 8
  }
  if (ptx::any(raise[0] || raise[1])) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      if (kByRow && !raise[half]) top[half] = max[half];
      const float rescale = kByRow && !raise[half] ? 1.f : exp2_approx((max[half] - top[half]) * scale_log2);
      max[half] = top[half];
      sum[half] *= rescale;
#pragma unroll
      for (int n = 0; n < kDim / 8; n++) {
        d[n][2 * half] *= rescale;
        d[n][2 * half + 1] *= rescale;
      }
    }
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const float shift = max[half] * scale_log2;
#pragma unroll
    for (int n = 0; n < kBlocks; n++) {
#pragma unroll
      for (int e = 2 * half; e < 2 * half + 2; e++) {
        s[n][e] = exp2_approx(s[n][e] * scale_log2 - shift);
        sum[half] += s[n][e];
      }
    }
  }
}

constexpr int kAtoms = kTileM / (16 * kWarps);   // forward: groups of 16 rows a warp owns

struct ForwardShared {
  Tile<kTileM> q;
  Tile<kTileN> ring[kStages];
};

struct BackwardQueriesShared {
  Tile<kBackwardTile> q, d;
  Tile<kStepN> k[kBackwardStages], v[kBackwardStages];
};

struct BackwardKeysShared {
  Tile<kBackwardTile> k, v;
  Tile<kStepM> q[kBackwardStages], d[kBackwardStages];
  float rows[kBackwardStages][2][kStepM];   // lse and delta
};

// Paged prompts have sizes that no search changes: with them the bits of a row would change too.
constexpr int kPagedTile = 16 * kWarps;               // rows of a block
constexpr int kPagedKeys = kHeadDim > 64 ? 32 : 64;   // keys of a step
constexpr int kPagedStages = kHeadDim > 64 ? 4 : 3;   // tiles of keys or values in the ring

struct PagedShared {
  Tile<kPagedTile> q;
  Tile<kPagedKeys> ring[kPagedStages];
};

constexpr int kDecodeKeys = 16;     // keys of a warp's step
constexpr int kDecodeStages = 2;
constexpr int kSplitKeys = 128;     // keys of a split at least

struct DecodeRing {
  Tile<kDecodeKeys> k[kDecodeStages], v[kDecodeStages];
};

struct DecodeShared {
  Tile<16> q;
  union {
    DecodeRing ring[kWarps];
    float o[kWarps][16][kDim + 4];   // + 4: rows of a quad's lanes in different banks
  };
  float max[kWarps][16], sum[kWarps][16];
};

// The launcher says how much shared memory it gives; it computes that from the same constants.
#ifdef kForwardBytes
static_assert(sizeof(ForwardShared) == kForwardBytes && sizeof(BackwardQueriesShared) == kBackwardQueriesBytes &&
                  sizeof(BackwardKeysShared) == kBackwardKeysBytes && sizeof(PagedShared) == kPagedBytes &&
                  sizeof(DecodeShared) == kDecodeBytes,
              "same sizes as in AttentionVariant.cs");
#endif

}  // namespace

struct AttentionForwardParams {
  const bf16* qkv;
  bf16* o;
  float* lse;
  const AttentionTile* tiles;
  int heads, kv_heads;
  float scale;
};
static_assert(sizeof(AttentionForwardParams) == 48, "same layout as Attention.ForwardParams in Attention.Cuda.cs");

// Grid: tiles of kTileM queries × N.
Z1_KERNEL(kThreads, 1, attention_forward, AttentionForwardParams) {
  auto& s = *shared_memory<ForwardShared>();
  const int head = blockIdx.x % p.heads;
  const AttentionTile tile = p.tiles[blockIdx.x / p.heads];
  if (tile.length == 0) return;
  const int64_t stride = int64_t(p.heads + 2 * p.kv_heads) * kHeadDim;
  const bf16* sequence = p.qkv + tile.start * stride;
  const bf16* keys = sequence + (p.heads + head / (p.heads / p.kv_heads)) * kHeadDim;
  const bf16* values = keys + p.kv_heads * kHeadDim;
  const int end = min(tile.first + kTileM, tile.length);
  const int steps = (end + kTileN - 1) / kTileN;

  // The ring takes the tiles of keys and values in turn: k0, v0, k1, v1, …
  int next = 0, next_slot = 0;
  const auto load_next = [&] {
    if (next < 2 * steps) {
      const int first = next / 2 * kTileN;
      load_tile(s.ring[next_slot], (next % 2 == 0 ? keys : values) + first * stride, stride, tile.length - first);
    }
    next++;
    next_slot = next_slot + 1 == kStages ? 0 : next_slot + 1;
    ptx::cp_async_commit();   // an empty group at the end, so that the count of groups stays that of tiles
  };
  load_tile(s.q, sequence + tile.first * stride + head * kHeadDim, stride, tile.length - tile.first);
#pragma unroll
  for (int i = 0; i < kStages - 1; i++) load_next();

  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int warp_row = threadIdx.x / kWarp * (16 * kAtoms);   // in the tile
  const int row = tile.first + warp_row;                      // in the sequence
  const float scale_log2 = p.scale * kLog2E;
  float out[kAtoms][kDim / 8][4], max[kAtoms][2], sum[kAtoms][2];
#pragma unroll
  for (int a = 0; a < kAtoms; a++) {
    clear(out[a]);
    max[a][0] = max[a][1] = -kInfinity;
    sum[a][0] = sum[a][1] = 0.f;
  }

  int slot = 0;
  for (int step = 0; step < steps; step++) {
    const int key = step * kTileN;
    const bool active = row < tile.length && key < row + 16 * kAtoms;   // else: no row, or every score is masked
    float score[kAtoms][kTileN / 8][4];
    ptx::cp_async_wait<kStages - 2>();
    ptx::sync_threads();
    load_next();
    if (active) {
#pragma unroll
      for (int a = 0; a < kAtoms; a++) clear(score[a]);
#pragma unroll
      for (int k = 0; k < kDim / 16; k++) {
        uint32_t fa[kAtoms][4];
#pragma unroll
        for (int a = 0; a < kAtoms; a++) load_a(fa[a], s.q, warp_row + 16 * a, k);
#pragma unroll
        for (int n = 0; n < kTileN / 16; n++) {
          uint32_t fb[4];
          load_b(fb, s.ring[slot], 16 * n, k);
#pragma unroll
          for (int a = 0; a < kAtoms; a++) mma_pair(score[a][2 * n], score[a][2 * n + 1], fa[a], fb);
        }
      }
      if (key + kTileN - 1 > row) {   // the diagonal; keys after the sequence's end are after every row that counts
#pragma unroll
        for (int a = 0; a < kAtoms; a++) mask<false>(score[a], key - row - 16 * a);
      }
    }
    slot = slot + 1 == kStages ? 0 : slot + 1;
    ptx::cp_async_wait<kStages - 2>();
    ptx::sync_threads();
    load_next();
    if (active) {
#pragma unroll
      for (int a = 0; a < kAtoms; a++) softmax_step(score[a], max[a], sum[a], out[a], scale_log2);
#pragma unroll
      for (int k = 0; k < kTileN / 16; k++) {
        uint32_t fa[kAtoms][4];
#pragma unroll
        for (int a = 0; a < kAtoms; a++) to_a(fa[a], score[a][2 * k], score[a][2 * k + 1]);
#pragma unroll
        for (int n = 0; n < kDim / 16; n++) {
          uint32_t fb[4];
          load_b_trans(fb, s.ring[slot], 16 * k, n);
#pragma unroll
          for (int a = 0; a < kAtoms; a++) mma_pair(out[a][2 * n], out[a][2 * n + 1], fa[a], fb);
        }
      }
    }
    slot = slot + 1 == kStages ? 0 : slot + 1;
  }

  const int64_t width = int64_t(p.heads) * kHeadDim;
#pragma unroll
  for (int a = 0; a < kAtoms; a++) {
    const int first = row + 16 * a;
    const int64_t token = tile.start + first;
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const float total = quad_sum(sum[a][half]);
      inverse[half] = 1.f / total;
      const int r = g + 8 * half;
      if (t == 0 && first + r < tile.length) p.lse[(token + r) * p.heads + head] = max[a][half] * p.scale + logf(total);
    }
    store_rows(out[a], inverse[0], inverse[1], s.q, warp_row + 16 * a, p.o + token * width + head * kHeadDim, width,
               tile.length - first);
  }
}

struct AttentionDeltaParams {
  const bf16* d_o;
  const bf16* o;
  float* delta;
  int64_t rows;
};
static_assert(sizeof(AttentionDeltaParams) == 32, "same layout as Attention.DeltaParams in Attention.Cuda.cs");

// delta = Σ dO · o over each head: half a warp per token and head, rows = T·N. Reads dO and o once.
Z1_KERNEL(kThreads, 1, attention_delta, AttentionDeltaParams) {
  const int64_t row = int64_t(blockIdx.x) * (kThreads / 16) + threadIdx.x / 16;
  const int lane = threadIdx.x % 16;
  float sum = 0.f;
  if (row < p.rows && lane * 8 < kHeadDim) {
    const Vec8 d = Vec8::load(p.d_o + row * kHeadDim + lane * 8), o = Vec8::load(p.o + row * kHeadDim + lane * 8);
#pragma unroll
    for (int i = 0; i < 8; i++) sum += d[i] * o[i];
  }
#pragma unroll
  for (int mask = 8; mask > 0; mask /= 2) sum += ptx::shfl_xor(sum, mask);
  if (row < p.rows && lane == 0) p.delta[row] = sum;
}

struct AttentionBackwardParams {
  const bf16* d_o;
  const bf16* qkv;
  const float* lse;
  const float* delta;
  bf16* dq;                 // row stride dq_stride; unused by the kernel of the keys
  bf16* dk;                 // row stride dkv_stride; dk and dv unused by the kernel of the queries
  bf16* dv;
  const AttentionTile* tiles;
  int64_t dq_stride, dkv_stride;
  int heads, kv_heads;
  float scale;
};
static_assert(sizeof(AttentionBackwardParams) == 96, "same layout as Attention.BackwardParams in Attention.Cuda.cs");

// dQ. Grid: tiles of kBackwardTile queries × N. dq may lie over the queries of qkv: a block reads no queries but its
// own.
Z1_KERNEL(kThreads, 2, attention_backward_queries, AttentionBackwardParams) {
  auto& s = *shared_memory<BackwardQueriesShared>();
  const int head = blockIdx.x % p.heads;
  const AttentionTile tile = p.tiles[blockIdx.x / p.heads];
  if (tile.length == 0) return;
  const int64_t stride = int64_t(p.heads + 2 * p.kv_heads) * kHeadDim, width = int64_t(p.heads) * kHeadDim;
  const bf16* sequence = p.qkv + tile.start * stride;
  const bf16* keys = sequence + (p.heads + head / (p.heads / p.kv_heads)) * kHeadDim;
  const bf16* values = keys + p.kv_heads * kHeadDim;
  const int end = min(tile.first + kBackwardTile, tile.length);
  const int steps = (end + kStepN - 1) / kStepN;

  int next = 0, next_slot = 0;
  const auto load_next = [&] {
    if (next < steps) {
      const int first = next * kStepN;
      load_tile(s.k[next_slot], keys + first * stride, stride, tile.length - first);
      load_tile(s.v[next_slot], values + first * stride, stride, tile.length - first);
    }
    next++;
    next_slot = next_slot + 1 == kBackwardStages ? 0 : next_slot + 1;
    ptx::cp_async_commit();
  };
  load_tile(s.q, sequence + tile.first * stride + head * kHeadDim, stride, tile.length - tile.first);
  load_tile(s.d, p.d_o + (tile.start + tile.first) * width + head * kHeadDim, width, tile.length - tile.first);
#pragma unroll
  for (int i = 0; i < kBackwardStages - 1; i++) load_next();

  const int g = threadIdx.x % kWarp / 4;
  const int warp_row = threadIdx.x / kWarp * 16;
  const int row = tile.first + warp_row;
  const float scale_log2 = p.scale * kLog2E;
  float lse_log2[2] = {0.f, 0.f}, delta[2] = {0.f, 0.f};   // a row past the end: q = dO = 0, so ds = 1 · (0 − 0)
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int r = row + g + 8 * half;
    if (r < tile.length) {
      const int64_t at = int64_t(tile.start + r) * p.heads + head;
      lse_log2[half] = p.lse[at] * kLog2E;
      delta[half] = p.delta[at];
    }
  }
  float dq[kDim / 8][4];
  clear(dq);

  ptx::cp_async_wait<kBackwardStages - 2>();
  ptx::sync_threads();
  uint32_t q[kDim / 16][4];   // dO stays in shared memory: both would leave too few registers
#pragma unroll
  for (int k = 0; k < kDim / 16; k++) load_a(q[k], s.q, warp_row, k);

  int slot = 0;
  for (int step = 0; step < steps; step++) {
    ptx::cp_async_wait<kBackwardStages - 2>();
    ptx::sync_threads();
    load_next();
    const int key = step * kStepN;
    if (row < tile.length && key < row + 16) {
      float ps[kStepN / 8][4], dp[kStepN / 8][4];
      scores(ps, q, s.k[slot]);
      if (key + kStepN - 1 > row) mask<false>(ps, key - row);
      scores(dp, s.d, warp_row, s.v[slot]);
      uint32_t ds[kStepN / 16][4];
#pragma unroll
      for (int n = 0; n < kStepN / 8; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const float prob = exp2_approx(ps[n][e] * scale_log2 - lse_log2[e / 2]);   // 0 where masked
          ps[n][e] = prob * (dp[n][e] - delta[e / 2]);
        }
      }
#pragma unroll
      for (int k = 0; k < kStepN / 16; k++) to_a(ds[k], ps[2 * k], ps[2 * k + 1]);
      add_product(dq, ds, s.k[slot]);
    }
    slot = slot + 1 == kBackwardStages ? 0 : slot + 1;
  }
  const int64_t to = (tile.start + row) * p.dq_stride + head * kHeadDim;
  store_rows(dq, p.scale, p.scale, s.q, warp_row, p.dq + to, p.dq_stride, tile.length - row);
}

// dK and dV. Grid: tiles of kBackwardTile keys × K. dk and dv may not lie over qkv while the kernel of the queries has
// yet to read it.
Z1_KERNEL(kThreads, 2, attention_backward_keys, AttentionBackwardParams) {
  auto& s = *shared_memory<BackwardKeysShared>();
  const int kv_head = blockIdx.x % p.kv_heads;
  const AttentionTile tile = p.tiles[blockIdx.x / p.kv_heads];
  if (tile.length == 0) return;
  const int group = p.heads / p.kv_heads;
  const int64_t stride = int64_t(p.heads + 2 * p.kv_heads) * kHeadDim, width = int64_t(p.heads) * kHeadDim;
  const bf16* sequence = p.qkv + tile.start * stride;
  const bf16* keys = sequence + tile.first * stride + (p.heads + kv_head) * kHeadDim;
  const int first_query = tile.first / kStepM * kStepM;    // queries before the tile see none of its keys

  int next_head = kv_head * group, next_query = first_query, next_slot = 0, staged_slot = 0;
  float staged = 0.f;
  const int last_head = next_head + group;
  const auto load_next = [&] {
    if (next_head < last_head) {
      const int rows = tile.length - next_query;
      const int64_t token = tile.start + next_query;
      load_tile(s.q[next_slot], sequence + next_query * stride + next_head * kHeadDim, stride, rows);
      load_tile(s.d[next_slot], p.d_o + token * width + next_head * kHeadDim, width, rows);
      // rows past the end get 0: there q = dO = 0, so p · dO = 0 and ds = 1 · (0 − 0)
      const int i = threadIdx.x % kStepM;
      staged = 0.f;
      if (threadIdx.x < 2 * kStepM && i < rows) {
        staged = (threadIdx.x < kStepM ? p.lse : p.delta)[(token + i) * p.heads + next_head];
      }
      next_query += kStepM;
      if (next_query >= tile.length) {
        next_query = first_query;
        next_head++;
      }
    }
    staged_slot = next_slot;
    next_slot = next_slot + 1 == kBackwardStages ? 0 : next_slot + 1;
    ptx::cp_async_commit();
  };
  // lse and delta wait in a register while the step before is computed, so that no thread waits for them.
  static_assert(2 * kStepM <= kThreads, "one thread per lse and delta of a step");
  const auto store_staged = [&] {
    if (threadIdx.x < 2 * kStepM) s.rows[staged_slot][threadIdx.x / kStepM][threadIdx.x % kStepM] = staged;
  };
  load_tile(s.k, keys, stride, tile.length - tile.first);
  load_tile(s.v, keys + p.kv_heads * kHeadDim, stride, tile.length - tile.first);
#pragma unroll
  for (int i = 0; i < kBackwardStages - 1; i++) {
    load_next();
    store_staged();
  }

  const int t = threadIdx.x % 4;
  const int warp_row = threadIdx.x / kWarp * 16;
  const int row = tile.first + warp_row;                   // the warp's first key
  const float scale_log2 = p.scale * kLog2E;
  float dk[kDim / 8][4], dv[kDim / 8][4];
  clear(dk);
  clear(dv);

  int slot = 0;
  for (int head = 0; head < group; head++) {
    for (int query = first_query; query < tile.length; query += kStepM) {
      ptx::cp_async_wait<kBackwardStages - 2>();
      ptx::sync_threads();
      load_next();
      if (row < tile.length && row < query + kStepM) {     // else: no key, or every score of the warp is masked
        float ps[kStepM / 8][4], dp[kStepM / 8][4];        // transposed: rows are keys, columns queries
        scores(ps, s.k, warp_row, s.q[slot]);
        if (row + 15 > query) mask<true>(ps, query - row);
        scores(dp, s.v, warp_row, s.d[slot]);
        uint32_t prob[kStepM / 16][4], ds[kStepM / 16][4];
#pragma unroll
        for (int n = 0; n < kStepM / 8; n++) {
#pragma unroll
          for (int e = 0; e < 4; e++) {
            const int column = 8 * n + 2 * t + e % 2;
            ps[n][e] = exp2_approx(ps[n][e] * scale_log2 - s.rows[slot][0][column] * kLog2E);   // 0 where masked
            dp[n][e] = ps[n][e] * (dp[n][e] - s.rows[slot][1][column]);
          }
        }
#pragma unroll
        for (int k = 0; k < kStepM / 16; k++) {
          to_a(prob[k], ps[2 * k], ps[2 * k + 1]);
          to_a(ds[k], dp[2 * k], dp[2 * k + 1]);
        }
        add_product(dv, prob, s.d[slot]);
        add_product(dk, ds, s.q[slot]);
      }
      store_staged();
      slot = slot + 1 == kBackwardStages ? 0 : slot + 1;
    }
  }
  const int64_t to = (tile.start + row) * p.dkv_stride + kv_head * kHeadDim;
  store_rows(dk, p.scale, p.scale, s.k, warp_row, p.dk + to, p.dkv_stride, tile.length - row);
  store_rows(dv, 1.f, 1.f, s.v, warp_row, p.dv + to, p.dkv_stride, tile.length - row);
}

// Keys of one split of a row: its length over the splits, in whole rounds of the block, but not so few that merging
// costs more.
__device__ __forceinline__ int split_keys(int length, int splits) {
  constexpr int kRound = kWarps * kDecodeKeys;
  return max(kSplitKeys, (length + splits * kRound - 1) / (splits * kRound) * kRound);
}

// Rows 0 to rows − 1 of q, query heads that share a key/value head, against keys begin to end − 1 of their sequence.
// Warp w takes the steps w, w + 4, … of kDecodeKeys keys with a softmax of its own; the four are merged in order of the
// warps. load(k, v, key, valid), called by whole warps for their own steps in order, fetches keys and values of the
// valid keys from `key` on. The result goes to o, or, where part is not null, to there: Σ p·v, max and Σ p of each row.
template <class Load>
__device__ __forceinline__ void decode_keys(
    DecodeShared& s, const bf16* q_rows, int rows, int begin, int end, float scale_log2, bf16* o, float* part,
    int64_t part_stride, Load load) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  auto& ring = s.ring[warp];
  int next = begin + warp * kDecodeKeys, next_slot = 0;
  const auto load_next = [&] {
    if (next < end) load(ring.k[next_slot], ring.v[next_slot], next, end - next);
    next += kWarps * kDecodeKeys;
    next_slot = next_slot + 1 == kDecodeStages ? 0 : next_slot + 1;
    ptx::cp_async_commit();
  };
  load_tile(s.q, q_rows, kHeadDim, rows);
#pragma unroll
  for (int i = 0; i < kDecodeStages - 1; i++) load_next();
  ptx::cp_async_wait<0>();
  ptx::sync_threads();        // q is in place for all warps
  uint32_t q[kDim / 16][4];
#pragma unroll
  for (int k = 0; k < kDim / 16; k++) load_a(q[k], s.q, 0, k);

  float out[kDim / 8][4], max[2] = {-kInfinity, -kInfinity}, sum[2] = {0.f, 0.f};
  clear(out);
  int slot = 0;
  for (int key = begin + warp * kDecodeKeys; key < end; key += kWarps * kDecodeKeys) {
    ptx::cp_async_wait<kDecodeStages - 2>();
    ptx::sync_warp();
    load_next();
    float score[kDecodeKeys / 8][4];
    scores(score, q, ring.k[slot]);
    if (key + kDecodeKeys > end) {
#pragma unroll
      for (int n = 0; n < kDecodeKeys / 8; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
          if (key + 8 * n + 2 * t + e % 2 >= end) score[n][e] = -kInfinity;
        }
      }
    }
    softmax_step<true>(score, max, sum, out, scale_log2);
    uint32_t prob[kDecodeKeys / 16][4];
#pragma unroll
    for (int k = 0; k < kDecodeKeys / 16; k++) to_a(prob[k], score[2 * k], score[2 * k + 1]);
    add_product(out, prob, ring.v[slot]);
    slot = slot + 1 == kDecodeStages ? 0 : slot + 1;
  }

  ptx::cp_async_wait<0>();
  ptx::sync_threads();        // the rings are read; their memory now holds the sums
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int r = g + 8 * half;
    const float total = quad_sum(sum[half]);
    if (t == 0) {
      s.max[warp][r] = max[half];
      s.sum[warp][r] = total;
    }
#pragma unroll
    for (int n = 0; n < kDim / 8; n++) {
      s.o[warp][r][8 * n + 2 * t] = out[n][2 * half];
      s.o[warp][r][8 * n + 2 * t + 1] = out[n][2 * half + 1];
    }
  }
  ptx::sync_threads();
  for (int at = threadIdx.x; at < rows * (kHeadDim / 8); at += kThreads) {
    const int r = at / (kHeadDim / 8), chunk = at % (kHeadDim / 8);
    float top = s.max[0][r];
#pragma unroll
    for (int w = 1; w < kWarps; w++) top = fmaxf(top, s.max[w][r]);
    float total = 0.f;
    Vec8 merged;
#pragma unroll
    for (int i = 0; i < 8; i++) merged[i] = 0.f;
#pragma unroll
    for (int w = 0; w < kWarps; w++) {
      const float weight = exp2_approx((s.max[w][r] - top) * scale_log2);   // 0 for a warp without keys
      total += weight * s.sum[w][r];
#pragma unroll
      for (int i = 0; i < 8; i++) merged[i] += weight * s.o[w][r][8 * chunk + i];
    }
    if (part == nullptr) {
#pragma unroll
      for (int i = 0; i < 8; i++) merged[i] /= total;
      merged.store(o + r * kHeadDim + chunk * 8);
    } else {
      float* to = part + r * part_stride;
#pragma unroll
      for (int i = 0; i < 8; i++) to[chunk * 8 + i] = merged[i];
      if (chunk == 0) {
        to[kHeadDim] = top;
        to[kHeadDim + 1] = total;
      }
    }
  }
}

// Column threadIdx.x of a row from its parts, in order; one thread per column.
__device__ __forceinline__ void merge_parts(const float* from, int count, float scale, bf16* o) {
  const int column = threadIdx.x;
  if (column >= kHeadDim) return;
  float top = from[kHeadDim];
  for (int i = 1; i < count; i++) top = fmaxf(top, from[i * (kHeadDim + 4) + kHeadDim]);
  float total = 0.f, sum = 0.f;
  for (int i = 0; i < count; i++, from += kHeadDim + 4) {
    const float weight = exp2_approx((from[kHeadDim] - top) * scale * kLog2E);
    total += weight * from[kHeadDim + 1];
    sum += weight * from[column];
  }
  o[column] = to_bf16(sum / total);
}

// One entry of the list of a pass: first row in q, rows (0: no tile), position of the first row, row of the page table.
struct AttentionPagedTile {
  int row, rows, position, sequence;
};

struct AttentionPagedParams {
  const bf16* q;            // [R, …], row stride q_stride
  const bf16* k_pages;      // [pages, page tokens, K·H]
  const bf16* v_pages;
  const int* table;         // [sequences, table_stride] of pages
  const AttentionPagedTile* tiles;
  bf16* o;                  // [R, N·H]
  float* parts;             // decode: [tiles, N, splits, H + 4]: Σ p·v, max and Σ p of a split
  int64_t q_stride;
  int heads, kv_heads, table_stride;
  int page_shift;           // log2 of the tokens of a page
  int splits;               // decode
  float scale;
};
static_assert(sizeof(AttentionPagedParams) == 88, "same layout as Attention.PagedParams in Attention.Paged.Cuda.cs");

// Where a key of a sequence lies, in rows of k_pages and v_pages.
__device__ __forceinline__ int64_t page_row(const AttentionPagedParams& p, const int* table, int key) {
  return (int64_t(table[key >> p.page_shift]) << p.page_shift) + (key & ((1 << p.page_shift) - 1));
}

// Prompts. Grid: tiles of kPagedTile rows × N; as attention_forward, but that a row stands at a position of its own.
// Steps of kPagedKeys keys begin at multiples of kPagedKeys in the sequence, whatever row the tile begins with, each row's
// maximum is raised by its own scores, and a key that it does not see adds 0 to its sums: so its bits depend on its
// query and the keys up to its position. Pages of keys after the tile's last row are not read.
Z1_KERNEL(kThreads, 2, attention_paged, AttentionPagedParams) {
  auto& s = *shared_memory<PagedShared>();
  const int head = blockIdx.x % p.heads;
  const AttentionPagedTile tile = p.tiles[blockIdx.x / p.heads];
  if (tile.rows == 0) return;
  const int64_t stride = int64_t(p.kv_heads) * kHeadDim;
  const int offset = head / (p.heads / p.kv_heads) * kHeadDim;
  const int* table = p.table + int64_t(tile.sequence) * p.table_stride;
  const int end = tile.position + tile.rows;
  const int steps = (end + kPagedKeys - 1) / kPagedKeys;

  // The ring takes the tiles of keys and values in turn: k0, v0, k1, v1, …
  int next = 0, next_slot = 0;
  const auto load_next = [&] {
    if (next < 2 * steps) {
      const bf16* pages = (next % 2 == 0 ? p.k_pages : p.v_pages) + offset;
      Tile<kPagedKeys>& to = s.ring[next_slot];
      constexpr int kTotal = kPagedKeys * kChunks;
#pragma unroll
      for (int i = 0; i < (kTotal + kThreads - 1) / kThreads; i++) {
        const int at = i * kThreads + int(threadIdx.x);
        if (kTotal % kThreads != 0 && at >= kTotal) break;
        const int row = at / kChunks, chunk = at % kChunks, key = next / 2 * kPagedKeys + row;
        const bool valid = key < end && chunk * 8 < kHeadDim;
        const bf16* from = valid ? pages + page_row(p, table, key) * stride + chunk * 8 : pages;
        ptx::cp_async_16_zfill(to.at(row, chunk), from, valid);
      }
    }
    next++;
    next_slot = next_slot + 1 == kPagedStages ? 0 : next_slot + 1;
    ptx::cp_async_commit();   // an empty group at the end, so that the count of groups stays that of tiles
  };
  load_tile(s.q, p.q + tile.row * p.q_stride + head * kHeadDim, p.q_stride, tile.rows);
#pragma unroll
  for (int i = 0; i < kPagedStages - 1; i++) load_next();

  const int warp_row = threadIdx.x / kWarp * 16;   // in the tile
  const int row = tile.position + warp_row;        // in the sequence
  const float scale_log2 = p.scale * kLog2E;
  float out[kDim / 8][4], max[2] = {-kInfinity, -kInfinity}, sum[2] = {0.f, 0.f};
  clear(out);

  ptx::cp_async_wait<kPagedStages - 2>();
  ptx::sync_threads();
  uint32_t q[kDim / 16][4];
#pragma unroll
  for (int k = 0; k < kDim / 16; k++) load_a(q[k], s.q, warp_row, k);

  int slot = 0;
  for (int step = 0; step < steps; step++) {
    const int key = step * kPagedKeys;
    const bool active = warp_row < tile.rows && key < row + 16;   // else: no row, or every score is masked
    float score[kPagedKeys / 8][4];
    ptx::cp_async_wait<kPagedStages - 2>();
    ptx::sync_threads();
    load_next();
    if (active) {
      scores(score, q, s.ring[slot]);
      if (key + kPagedKeys - 1 > row) mask<false>(score, key - row);   // rows after the last see keys of zeros too
    }
    slot = slot + 1 == kPagedStages ? 0 : slot + 1;
    ptx::cp_async_wait<kPagedStages - 2>();
    ptx::sync_threads();
    load_next();
    if (active) {
      softmax_step<true>(score, max, sum, out, scale_log2);
      uint32_t prob[kPagedKeys / 16][4];
#pragma unroll
      for (int k = 0; k < kPagedKeys / 16; k++) to_a(prob[k], score[2 * k], score[2 * k + 1]);
      add_product(out, prob, s.ring[slot]);
    }
    slot = slot + 1 == kPagedStages ? 0 : slot + 1;
  }

#pragma unroll
  for (int n = 0; n < kDim / 8; n++) {
#pragma unroll
    for (int e = 0; e < 4; e++) out[n][e] += 0.f;   // −0 becomes 0: a key that is not seen adds +0 or −0 to it, or nothing
  }
  const int64_t width = int64_t(p.heads) * kHeadDim;
  store_rows(out, 1.f / quad_sum(sum[0]), 1.f / quad_sum(sum[1]), s.q, warp_row,
             p.o + (tile.row + warp_row) * width + head * kHeadDim, width, tile.rows - warp_row);
}

// New tokens, one row a tile. Grid: tiles × K × groups of 16 query heads, splits; the heads that share a key/value
// head are the rows of the product, so the cache is read once; the splits are merged by attention_paged_merge in order.
// The bits of a row depend on its own position and keys. Bound by the bytes of the cache.
Z1_KERNEL(kThreads, 1, attention_paged_decode, AttentionPagedParams) {
  auto& s = *shared_memory<DecodeShared>();
  const int group = p.heads / p.kv_heads, parts = (group + 15) / 16;
  const int kv_head = blockIdx.x / parts % p.kv_heads, index = blockIdx.x / parts / p.kv_heads;
  const int first = blockIdx.x % parts * 16, head = kv_head * group + first;
  const AttentionPagedTile tile = p.tiles[index];
  if (tile.rows == 0) return;
  const int length = tile.position + 1, split = split_keys(length, p.splits), begin = blockIdx.y * split;
  if (begin >= length) return;
  const int end = min(length, begin + split);
  const int64_t stride = int64_t(p.kv_heads) * kHeadDim;
  const int offset = kv_head * kHeadDim;
  const int* table = p.table + int64_t(tile.sequence) * p.table_stride;

  // Lanes r and r + 16 hold where key r of the warp's next step lies: read a step ahead, so that no copy waits for it.
  const int lane = threadIdx.x % kWarp;
  static_assert(kDecodeKeys == 16, "half a warp");
  const auto find = [&](int key) { return key < end ? page_row(p, table, key) * stride : 0; };
  int64_t at_key = find(begin + threadIdx.x / kWarp * kDecodeKeys + lane % kDecodeKeys);
  decode_keys(
      s, p.q + tile.row * p.q_stride + head * kHeadDim, min(16, group - first), begin, end, p.scale * kLog2E,
      p.o + (int64_t(tile.row) * p.heads + head) * kHeadDim,
      split >= length ? nullptr
                      : p.parts + ((int64_t(index) * p.heads + head) * p.splits + blockIdx.y) * (kHeadDim + 4),
      int64_t(p.splits) * (kHeadDim + 4), [&](Tile<kDecodeKeys>& k, Tile<kDecodeKeys>& v, int key, int valid_rows) {
#pragma unroll
        for (int i = 0; i < kDecodeKeys * kChunks / kWarp; i++) {
          const int at = i * kWarp + lane, r = at / kChunks, chunk = at % kChunks;
          const bool valid = r < valid_rows && chunk * 8 < kHeadDim;
          const int64_t from = ptx::shfl(at_key, r) + offset + (valid ? chunk * 8 : 0);
          ptx::cp_async_16_zfill(k.at(r, chunk), p.k_pages + from, valid);
          ptx::cp_async_16_zfill(v.at(r, chunk), p.v_pages + from, valid);
        }
        at_key = find(key + kWarps * kDecodeKeys + lane % kDecodeKeys);
      });
}

// Grid: tiles × N. Rows of one split are already in place.
Z1_KERNEL(kThreads, 1, attention_paged_merge, AttentionPagedParams) {
  const int64_t row = blockIdx.x;
  const AttentionPagedTile tile = p.tiles[row / p.heads];
  if (tile.rows == 0) return;
  const int length = tile.position + 1, split = split_keys(length, p.splits), count = (length + split - 1) / split;
  if (count == 1) return;
  merge_parts(p.parts + row * p.splits * (kHeadDim + 4), count, p.scale,
              p.o + (int64_t(tile.row) * p.heads + row % p.heads) * kHeadDim);
}

struct AttentionAppendParams {
  const bf16* qkv;          // [T, (N + 2K)·H]
  const int* pages;         // [T]
  const int* offsets;       // [T], in the page
  bf16* k_pages;            // [pages, page tokens, K·H]
  bf16* v_pages;
  int heads, kv_heads, page_tokens;
};
static_assert(sizeof(AttentionAppendParams) == 56, "same layout as Attention.AppendParams in Attention.Cuda.cs");

// Grid: T. Keys and values of a token to its page and offset, 16 bytes a thread.
Z1_KERNEL(kThreads, 1, attention_append, AttentionAppendParams) {
  const int64_t token = blockIdx.x;
  const int width = p.kv_heads * kHeadDim;
  const bf16* from = p.qkv + token * (int64_t(p.heads + 2 * p.kv_heads) * kHeadDim) + p.heads * kHeadDim;
  const int64_t to = (int64_t(p.pages[token]) * p.page_tokens + p.offsets[token]) * width;
  for (int c = 8 * int(threadIdx.x); c < width; c += 8 * kThreads) {
    Vec8::load(from + c).store(p.k_pages + to + c);
    Vec8::load(from + width + c).store(p.v_pages + to + c);
  }
}

struct AttentionCopyParams {
  const bf16* from;         // [T, columns]
  bf16* to;                 // row stride to_stride
  int64_t to_stride;
  int columns;
};
static_assert(sizeof(AttentionCopyParams) == 32, "same layout as Attention.CopyParams in Attention.Cuda.cs");

// Grid: T. dk and dv from the workspace into dqkv, where that lies over qkv.
Z1_KERNEL(kThreads, 1, attention_copy, AttentionCopyParams) {
  const int64_t row = blockIdx.x;
  for (int c = 8 * int(threadIdx.x); c < p.columns; c += 8 * kThreads) {
    Vec8::load(p.from + row * p.columns + c).store(p.to + row * p.to_stride + c);
  }
}
