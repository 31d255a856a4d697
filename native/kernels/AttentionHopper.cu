// Causal attention over packed sequences for sm_90a: the kernels of Attention.cu for head dims 64 and 128, by wgmma and
// TMA. Letters: T tokens, N query heads, K key/value heads, H head dim, G = N/K.
//   forward   s_ij = q_i·k_j / √H, o_i = Σ_{j≤i} p_ij v_j, p_ij = exp(s_ij − lse_i), lse_i = log Σ_{j≤i} exp(s_ij)
//   backward  dv_j = Σ p_ij do_i, ds_ij = p_ij (do_i·v_j − δ_i), δ_i = do_i·o_i, dq_i = Σ ds_ij k_j / √H,
//             dk_j = Σ ds_ij q_i / √H
// FlashAttention-2 and 3: Dao 2023, arXiv:2307.08691; Shah et al. 2024, arXiv:2407.08608.
//
// Shapes: qkv and dqkv [T, (N + 2K)·H], o and dO [T, N·H] bf16; lse and delta [T, N] fp32, lse a natural logarithm.
// Saved for backward: qkv, o, lse. The tiles are those of Attention.cu, 128 rows each, most work first; entries of
// length 0 are passed over, so a graph can have a fixed grid.
//
// Parallelisation. A block is one producer warp, which loads tiles by TMA through mbarriers, and two consumer
// warpgroups of 64 rows each, which multiply by wgmma; setmaxnreg gives the producer's registers to the consumers.
// Blocks are persistent: each takes items (tile × head) in rounds, so the loads of an item overlap the end of the one
// before.
//   forward   item: 128 queries × query head; a ring of key and value tiles, from the diagonal down. The scores of the
//             next tile are multiplied while P·V of this one is under way and its softmax runs; the two warpgroups take
//             turns to issue, so that one's softmax falls into the other's products. P goes from accumulators to the A
//             operand in registers.
//   keys      item: 128 keys × key/value head × split of its G query heads; a ring of query and dO tiles over these
//             heads in order. The scores are computed transposed, so P and dS are A operands in registers as well. With
//             one split dk and dv are rounded here; with more, attention_hopper_sum adds fp32 parts in the order of the
//             splits. Splits are for batches with fewer key tiles than multiprocessors: 5,120 tokens of a model with
//             K = 2 would be 80 items of very unequal length.
//   queries   item: 128 queries × query head; a ring of key and value tiles.
// Every operand in shared memory comes from TMA: there are no ordinary stores for a proxy fence to order. Sums have a
// fixed order and there are no atomics: two runs give equal bits.
//
// Ends of sequences. A box that runs past a sequence's end reads the next sequence's rows, or zeros past T. Such keys
// are behind the causal mask of every query that is stored (p = 0 exactly), such queries are not stored (forward, dQ)
// or have lse = ∞ and δ = 0 (dK/dV). A zero times the neighbour's row is 0 as long as that row is finite. A NaN or
// infinity in qkv or dO can therefore spread to the last 127 rows of the sequence before it, as it does to the rest of
// its own tile; Attention.cu, which fills with zeros, keeps it in its sequence.
//
// Cost. With A = Σ len (len + 1) / 2 pairs: forward 4·H·N·A flops, backward 14·H·N·A executed and 10·H·N·A counted, as
// in Attention.cu. Whole tiles are multiplied, so a sequence of n tiles does n (n + 1) / 2 of 128 × 128: 10 % more than
// A at length 1,280. Bytes from device memory: qkv once (again from L2 per head of a group and tile), o and lse once;
// far below the time of the products.
//
// Prediction, NOT measured (no GPU was at hand when this was written). An SM of H100 or H200 does 4,096 dense bf16
// flops a cycle. Forward at H = 128: a 128 × 128 tile is 2,048 cycles of products against 1,024 of ex2 (16 a cycle) and
// about as many again of other fp32 work, so overlap decides. FlashAttention-3, which this follows, reaches 60 to 65 %
// of peak at 8k and 423 TFLOP/s at 1k, 521 at 2k (causal, H100). At 1.3k a tile meets 5.5 key tiles on average, of
// which about one is lost to prologue and epilogue: expected 380 to 440 TFLOP/s at 1.3k, 500 to 580 at 8k. Backward: 7
// products instead of the 5 counted; m64n64 products from shared memory need 32 cycles of its 128 bytes a cycle for 32
// cycles of products, so S and dP run at that edge; with half of the peak executed, less the diagonal: expected 210 to
// 260 TFLOP/s counted as 2.5 × forward at 1.3k. Refuted if forward is below 300: then look at the turns of the
// warpgroups first.
//
// Rounding points: p and ds to bf16 before their products, o, dq, dk, dv at the store. All else is fp32; exp is
// ex2.approx.
#include "hopper.cuh"

#ifndef kHeadDim
#define kHeadDim 128       // H
#endif
#ifndef kTileN
#define kTileN 128         // forward: keys of a step
#endif
#ifndef kStages
#define kStages 2          // forward: key tiles, and value tiles, in the ring
#endif
#ifndef kStepM
#define kStepM 64          // dK/dV: queries of a step
#endif
#ifndef kStepN
#define kStepN 64          // dQ: keys of a step
#endif
#ifndef kStepStages
#define kStepStages 3      // backward: steps in the ring
#endif

namespace {

static_assert(kHeadDim == 64 || kHeadDim == 128, "one or two slabs of 64 columns");
static_assert(kTileN == 64 || kTileN == 128 || kTileN == 192, "the wgmma shapes of hopper.cuh");
static_assert(kStepM == 64, "128 spills at either head dim");
static_assert(kStepN == 64 || (kStepN == 128 && kHeadDim == 64), "128 × 128 leaves ptxas too few registers: C7512");
static_assert(kStages >= 2 && kStepStages >= 2, "one tile is read while the next one arrives");

constexpr int kTile = 128;                 // rows of an item, 64 per consumer warpgroup
constexpr int kSlabs = kHeadDim / hopper::kSlab;
constexpr int kConsumers = 2 * hopper::kWarpgroup;
constexpr int kThreads = hopper::kWarpgroup + kConsumers;
constexpr int kConsumerWarps = kConsumers / kWarp;
// 65,536 registers are 168 for each of 384 threads; 24 + 2 · 240 is no more than 3 · 168.
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;
constexpr int kSumThreads = 256;
constexpr int kFirstTurn = 1;              // named barriers 1 and 2: the turn of each consumer warpgroup
constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// As in Attention.cu: the sequence's first token, the tile's first row in it, the sequence's length (0: no tile).
struct AttentionTile {
  int start, first, length, unused;
};

// Rows of one head as a tensor copy leaves them: slabs of 64 columns, rows of 128 bytes, swizzled.
template <int kRows>
struct alignas(1024) Rows {
  bf16 data[kRows * kHeadDim];
};

// The item of a round. Even rounds ascend and odd ones descend: the block with the longest item of one round gets the
// shortest of the next.
__device__ __forceinline__ int64_t item_of(int round) {
  const int column = round % 2 == 0 ? int(blockIdx.x) : int(gridDim.x) - 1 - int(blockIdx.x);
  return int64_t(round) * gridDim.x + column;
}

// Place in a ring of kCount stages after a number of steps.
template <int kCount>
struct Place {
  int stage, parity;
  __device__ __forceinline__ explicit Place(int step) : stage(step % kCount), parity(step / kCount % 2) {}
};

// This warp has read what the barrier guards.
__device__ __forceinline__ void release(hopper::Barrier& barrier) {
  ptx::sync_warp();
  if (threadIdx.x % kWarp == 0) hopper::arrive(barrier);
}

// s = A · Bᵀ over the head dim: 64 rows of a tile of kRowsA, all 2N rows of b.
template <int kRowsA, int N>
__device__ __forceinline__ void multiply_heads(float (&s)[N], uint32_t a, uint32_t b) {
  const uint64_t a_base = hopper::descriptor(a, 0, hopper::kAtomBytes);
  const uint64_t b_base = hopper::descriptor(b, 0, hopper::kAtomBytes);
#pragma unroll
  for (int slab = 0; slab < kSlabs; slab++) {
#pragma unroll
    for (int step = 0; step < hopper::kSlab / 16; step++) {
      hopper::wgmma(s, hopper::advance(a_base, slab * kRowsA * hopper::kRowBytes + step * 32),
                    hopper::advance(b_base, slab * 2 * N * hopper::kRowBytes + step * 32), slab + step > 0);
    }
  }
}

// d += A · B over the kRows rows of b; A in registers.
template <int kRows, int N>
__device__ __forceinline__ void multiply_rows(float (&d)[N], const uint32_t (&a)[kRows / 16][4], uint32_t b) {
  const uint64_t base = hopper::descriptor(b, kRows * hopper::kRowBytes, hopper::kAtomBytes);
#pragma unroll
  for (int step = 0; step < kRows / 16; step++) {
    hopper::wgmma_rows(d, a[step], hopper::advance(base, step * 16 * hopper::kRowBytes));
  }
}

// Accumulators as A operands of 16 columns each.
template <int N>
__device__ __forceinline__ void pack(uint32_t (&a)[N / 8][4], const float (&s)[N]) {
#pragma unroll
  for (int i = 0; i < N / 8; i++) {
#pragma unroll
    for (int r = 0; r < 4; r++) a[i][r] = ptx::pack_bf16(s[8 * i + 2 * r], s[8 * i + 2 * r + 1]);
  }
}

// Column of accumulator i, of this thread's four in eight; row 0 or 1 of its two.
__device__ __forceinline__ int column_of(int i) { return 8 * (i / 4) + 2 * int(threadIdx.x % 4) + i % 2; }
__device__ __forceinline__ constexpr int half_of(int i) { return i / 2 % 2; }

// Lane i of four holds piece i of four 16-byte chunks; afterwards chunk i.
__device__ __forceinline__ void transpose_quad(uint32_t (&x)[4]) {
  const bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
  const uint32_t a = ptx::shfl_xor(odd ? x[0] : x[1], 1), b = ptx::shfl_xor(odd ? x[2] : x[3], 1);
  x[0] = odd ? a : x[0], x[1] = odd ? x[1] : a;   // an index that is not a constant would take x out of its registers
  x[2] = odd ? b : x[2], x[3] = odd ? x[3] : b;
  const uint32_t c = ptx::shfl_xor(high ? x[0] : x[2], 2), d = ptx::shfl_xor(high ? x[1] : x[3], 2);
  x[0] = high ? c : x[0], x[2] = high ? x[2] : c;
  x[1] = high ? d : x[1], x[3] = high ? x[3] : d;
}

// d · scale to this thread's two rows, out and out + 8 · stride, 16 bytes at a time.
template <int N>
__device__ __forceinline__ void store_rows(bf16* out, int64_t stride, const float (&d)[N], const float (&scale)[2],
                                           const bool (&stored)[2]) {
#pragma unroll
  for (int group = 0; group < N / 16; group++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      uint32_t x[4];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const int at = 16 * group + 4 * j + 2 * half;
        x[j] = ptx::pack_bf16(d[at] * scale[half], d[at + 1] * scale[half]);
      }
      transpose_quad(x);
      if (stored[half]) {
        ptx::store_16(out + 8 * half * stride + 32 * group + 8 * (threadIdx.x % 4), uint4{x[0], x[1], x[2], x[3]});
      }
    }
  }
}

// The same in fp32; four lanes write the 32 bytes of a sector together.
template <int N>
__device__ __forceinline__ void store_parts(float* out, int64_t stride, const float (&d)[N], float scale,
                                            const bool (&stored)[2]) {
#pragma unroll
  for (int i = 0; i < N; i += 2) {
    if (stored[half_of(i)]) {
      *reinterpret_cast<float2*>(out + 8 * half_of(i) * stride + column_of(i)) = float2{d[i] * scale, d[i + 1] * scale};
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

// One tile of scores to exp(s − maximum), with the running maximum and sum of this thread's two rows; rescale: what
// sums so far are to be multiplied by. `last`: the last column that the lower row sees; the other row sees 8 more.
template <int N>
__device__ __forceinline__ void softmax_tile(float (&s)[N], float (&maximum)[2], float (&sum)[2], float (&rescale)[2],
                                             float scale, int last, bool masked) {
  if (masked) {
#pragma unroll
    for (int i = 0; i < N; i++) {
      if (column_of(i) > last + 8 * half_of(i)) s[i] = -kInfinity;
    }
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float top = maximum[half];
#pragma unroll
    for (int j = 2 * half; j < N; j += 4) top = fmaxf(top, fmaxf(s[j], s[j + 1]));
    top = quad_max(top);
    const float base = top == -kInfinity ? 0.f : top * scale;   // a row that sees none of the keys so far
    rescale[half] = exp2_approx(maximum[half] * scale - base);
    maximum[half] = top;
    float total = 0.f;
#pragma unroll
    for (int j = 2 * half; j < N; j += 4) {
      s[j] = exp2_approx(s[j] * scale - base);
      s[j + 1] = exp2_approx(s[j + 1] * scale - base);
      total += s[j] + s[j + 1];
    }
    sum[half] = sum[half] * rescale[half] + total;
  }
}

}  // namespace

struct AttentionHopperForwardParams {
  hopper::TensorMap query;   // qkv in boxes of kTile rows of a head
  hopper::TensorMap key;     // qkv in boxes of kTileN rows of a head
  bf16* o;
  float* lse;
  const AttentionTile* tiles;
  int tile_count, heads, kv_heads;
  float scale;               // log2 e / √H
};
static_assert(sizeof(AttentionHopperForwardParams) == 320, "same layout as AttentionHopper.ForwardParams");

struct ForwardShared {
  Rows<kTile> q;
  Rows<kTileN> k[kStages], v[kStages];
  hopper::Barrier q_full, q_empty;
  hopper::Barrier k_full[kStages], k_empty[kStages], v_full[kStages], v_empty[kStages];
};

// Grid: as many blocks as the device holds at once.
Z1_KERNEL(kThreads, 1, attention_hopper_forward, AttentionHopperForwardParams) {
  auto& s = *shared_memory<ForwardShared>();
  using Ring = Place<kStages>;
  const int64_t items = int64_t(p.tile_count) * p.heads;
  if (threadIdx.x == 0) {
    hopper::barrier_init(s.q_full, 1);
    hopper::barrier_init(s.q_empty, kConsumerWarps);
    for (int i = 0; i < kStages; i++) {
      hopper::barrier_init(s.k_full[i], 1);
      hopper::barrier_init(s.v_full[i], 1);
      hopper::barrier_init(s.k_empty[i], kConsumerWarps);
      hopper::barrier_init(s.v_empty[i], kConsumerWarps);
    }
    hopper::barrier_init_fence();
  }
  ptx::sync_threads();

  const int warpgroup = ptx::shfl(int(threadIdx.x) / hopper::kWarpgroup, 0);   // the same register for the whole warp
  int step = 0, filled = 0;                                                    // key tiles and items so far
  if (warpgroup == 0) {
    hopper::registers_decrease<kProducerRegisters>();
    if (threadIdx.x == 0) {
      hopper::prefetch(p.query);
      hopper::prefetch(p.key);
      for (int round = 0; item_of(round) < items; round++) {
        const int head = int(item_of(round) % p.heads);
        const AttentionTile tile = p.tiles[item_of(round) / p.heads];
        if (tile.length == 0) continue;
        const int key_slab = (p.heads + head / (p.heads / p.kv_heads)) * kSlabs;
        const int value_slab = key_slab + p.kv_heads * kSlabs;
        const int last = (min(tile.first + kTile, tile.length) - 1) / kTileN;
        for (int block = last; block >= 0; block--, step++) {
          const Ring at(step);
          const int token = tile.start + block * kTileN;
          hopper::wait(s.k_empty[at.stage], at.parity ^ 1);
          hopper::arrive_expect(s.k_full[at.stage], sizeof(s.k[0]));
          hopper::load_3d(&s.k[at.stage], p.key, s.k_full[at.stage], 0, token, key_slab);
          if (block == last) {   // after the first keys, whose stage may be free long before the queries are
            hopper::wait(s.q_empty, filled % 2 ^ 1);
            hopper::arrive_expect(s.q_full, sizeof(s.q));
            hopper::load_3d(&s.q, p.query, s.q_full, 0, tile.start + tile.first, head * kSlabs);
          }
          hopper::wait(s.v_empty[at.stage], at.parity ^ 1);
          hopper::arrive_expect(s.v_full[at.stage], sizeof(s.v[0]));
          hopper::load_3d(&s.v[at.stage], p.key, s.v_full[at.stage], 0, token, value_slab);
        }
        filled++;
      }
    }
  } else {
    hopper::registers_increase<kConsumerRegisters>();
    const int consumer = warpgroup - 1;
    const int row = 64 * consumer + 16 * int(threadIdx.x % hopper::kWarpgroup / kWarp) + int(threadIdx.x % kWarp / 4);
    const uint32_t q = hopper::shared_address(&s.q) + 64 * consumer * hopper::kRowBytes;
    float scores[kTileN / 2], out[kHeadDim / 2], maximum[2], sum[2], rescale[2];
    uint32_t probabilities[kTileN / 16][4];
    const auto tile_of = [&](int round) { return p.tiles[min(item_of(round), items - 1) / p.heads]; };
    AttentionTile upcoming = tile_of(0);
    if (consumer == 1) ptx::bar_arrive(kFirstTurn, kConsumers);
    for (int round = 0; item_of(round) < items; round++) {
      const int head = int(item_of(round) % p.heads);
      const AttentionTile tile = upcoming;
      upcoming = tile_of(round + 1);   // loaded long before it is needed
      if (tile.length == 0) continue;
      int block = (min(tile.first + kTile, tile.length) - 1) / kTileN;
      const auto softmax = [&] {
        softmax_tile(scores, maximum, sum, rescale, p.scale, tile.first + row - block * kTileN,
                     (block + 1) * kTileN > tile.first + 64 * consumer);
      };
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; i++) out[i] = 0.f;
      maximum[0] = maximum[1] = -kInfinity;
      sum[0] = sum[1] = 0.f;

      const Ring first(step);
      hopper::wait(s.q_full, filled % 2);
      hopper::wait(s.k_full[first.stage], first.parity);
      ptx::bar_sync(kFirstTurn + consumer, kConsumers);
      hopper::hold(scores);
      hopper::wgmma_fence();
      multiply_heads<kTile>(scores, q, hopper::shared_address(&s.k[first.stage]));
      hopper::wgmma_commit();
      ptx::bar_arrive(kFirstTurn + 1 - consumer, kConsumers);
      hopper::wgmma_wait<0>();
      hopper::hold(scores);
      release(s.k_empty[first.stage]);
      softmax();
      pack(probabilities, scores);

      for (block--; block >= 0; block--, step++) {
        const Ring at(step), next(step + 1);
        hopper::wait(s.k_full[next.stage], next.parity);
        ptx::bar_sync(kFirstTurn + consumer, kConsumers);
        hopper::hold(scores);
        hopper::hold(out);
        hopper::hold(probabilities);
        hopper::wgmma_fence();
        multiply_heads<kTile>(scores, q, hopper::shared_address(&s.k[next.stage]));
        hopper::wgmma_commit();
        hopper::wait(s.v_full[at.stage], at.parity);
        multiply_rows<kTileN>(out, probabilities, hopper::shared_address(&s.v[at.stage]));
        hopper::wgmma_commit();
        ptx::bar_arrive(kFirstTurn + 1 - consumer, kConsumers);
        hopper::wgmma_wait<1>();
        hopper::hold(scores);
        release(s.k_empty[next.stage]);
        softmax();
        hopper::wgmma_wait<0>();
        hopper::hold(out);
        hopper::hold(probabilities);
        release(s.v_empty[at.stage]);
#pragma unroll
        for (int i = 0; i < kHeadDim / 2; i++) out[i] *= rescale[half_of(i)];
        pack(probabilities, scores);
      }
      release(s.q_empty);
      filled++;

      const Ring at(step++);
      hopper::wait(s.v_full[at.stage], at.parity);
      hopper::hold(out);
      hopper::hold(probabilities);
      hopper::wgmma_fence();
      multiply_rows<kTileN>(out, probabilities, hopper::shared_address(&s.v[at.stage]));
      hopper::wgmma_commit();
      hopper::wgmma_wait<0>();
      hopper::hold(out);
      release(s.v_empty[at.stage]);

      sum[0] = quad_sum(sum[0]);
      sum[1] = quad_sum(sum[1]);
      const int local = tile.first + row;
      const int64_t token = tile.start + local, stride = int64_t(p.heads) * kHeadDim;
      const bool stored[2] = {local < tile.length, local + 8 < tile.length};
      const float scale[2] = {1.f / sum[0], 1.f / sum[1]};
      store_rows(p.o + token * stride + head * kHeadDim, stride, out, scale, stored);
#pragma unroll
      for (int half = 0; half < 2; half++) {
        if (threadIdx.x % 4 == 0 && stored[half]) {
          p.lse[(token + 8 * half) * p.heads + head] = (maximum[half] * p.scale + log2f(sum[half])) * kLn2;
        }
      }
    }
    if (consumer == 0) ptx::bar_sync(kFirstTurn, kConsumers);   // takes the last turn, which nobody uses
  }
}

struct AttentionHopperBackwardParams {
  hopper::TensorMap tile;       // qkv in boxes of kTile rows of a head
  hopper::TensorMap step;       // qkv in boxes of kStepM (keys' kernel) or kStepN (queries' kernel) rows of a head
  hopper::TensorMap gradient;   // dO in boxes of kStepM (keys' kernel) or kTile (queries' kernel) rows of a head
  const float* lse;
  const float* delta;
  bf16* dq;                     // row stride dq_stride; unused by the kernel of the keys
  bf16* dk;                     // row stride dkv_stride; dk and dv unused by the kernel of the queries and with splits
  bf16* dv;
  float* parts;                 // [splits, T, 2K·H], dk then dv; unused with one split
  const AttentionTile* tiles;
  int64_t dq_stride, dkv_stride;
  int tokens, tile_count, heads, kv_heads;
  int splits, split_heads;      // ⌈G / split_heads⌉ splits of split_heads heads, the last one of what is left
  float scale;                  // log2 e / √H
};
static_assert(sizeof(AttentionHopperBackwardParams) == 512, "same layout as AttentionHopper.BackwardParams");

struct BackwardKeysShared {
  Rows<kTile> k, v;
  Rows<kStepM> q[kStepStages], d_o[kStepStages];
  float lse[kStepStages][kStepM], delta[kStepStages][kStepM];
  hopper::Barrier tile_full, tile_empty;
  hopper::Barrier full[kStepStages], empty[kStepStages];
};

// Grid: as many blocks as the device holds at once.
Z1_KERNEL(kThreads, 1, attention_hopper_backward_keys, AttentionHopperBackwardParams) {
  auto& s = *shared_memory<BackwardKeysShared>();
  using Ring = Place<kStepStages>;
  const int per_tile = p.kv_heads * p.splits, group = p.heads / p.kv_heads;
  const int64_t items = int64_t(p.tile_count) * per_tile;
  const auto heads_of = [&](int split) { return min(p.split_heads, group - split * p.split_heads); };
  if (threadIdx.x == 0) {
    hopper::barrier_init(s.tile_full, 1);
    hopper::barrier_init(s.tile_empty, kConsumerWarps);
    for (int i = 0; i < kStepStages; i++) {
      hopper::barrier_init(s.full[i], 1 + kWarp);   // the tensor copies, and each lane's lse and delta
      hopper::barrier_init(s.empty[i], kConsumerWarps);
    }
    hopper::barrier_init_fence();
  }
  ptx::sync_threads();

  const int warpgroup = ptx::shfl(int(threadIdx.x) / hopper::kWarpgroup, 0);
  int step = 0, filled = 0;
  if (warpgroup == 0) {
    hopper::registers_decrease<kProducerRegisters>();
    if (threadIdx.x < kWarp) {
      for (int round = 0; item_of(round) < items; round++) {
        const int in_tile = int(item_of(round) % per_tile), kv_head = in_tile / p.splits, split = in_tile % p.splits;
        const AttentionTile tile = p.tiles[item_of(round) / per_tile];
        if (tile.length == 0) continue;
        if (threadIdx.x == 0) {
          const int token = tile.start + tile.first;
          hopper::wait(s.tile_empty, filled % 2 ^ 1);
          hopper::arrive_expect(s.tile_full, sizeof(s.k) + sizeof(s.v));
          hopper::load_3d(&s.k, p.tile, s.tile_full, 0, token, (p.heads + kv_head) * kSlabs);
          hopper::load_3d(&s.v, p.tile, s.tile_full, 0, token, (p.heads + p.kv_heads + kv_head) * kSlabs);
        }
        filled++;
        const int first_head = kv_head * group + split * p.split_heads;
        for (int head = first_head; head < first_head + heads_of(split); head++) {
          for (int first = tile.first; first < tile.length; first += kStepM, step++) {
            const Ring at(step);
            hopper::Barrier& full = s.full[at.stage];
            hopper::wait(s.empty[at.stage], at.parity ^ 1);
            if (threadIdx.x == 0) {
              hopper::arrive_expect(full, sizeof(s.q[0]) + sizeof(s.d_o[0]));
              hopper::load_3d(&s.q[at.stage], p.step, full, 0, tile.start + first, head * kSlabs);
              hopper::load_3d(&s.d_o[at.stage], p.gradient, full, 0, tile.start + first, head * kSlabs);
            }
#pragma unroll
            for (int query = threadIdx.x; query < kStepM; query += kWarp) {
              const bool exists = first + query < tile.length;
              const int64_t from = int64_t(tile.start + first + query) * p.heads + head;
              s.lse[at.stage][query] = exists ? p.lse[from] * kLog2E : kInfinity;
              s.delta[at.stage][query] = exists ? p.delta[from] : 0.f;
            }
            hopper::arrive(full);
          }
        }
      }
    }
  } else {
    hopper::registers_increase<kConsumerRegisters>();
    const int consumer = warpgroup - 1;
    const int row = 64 * consumer + 16 * int(threadIdx.x % hopper::kWarpgroup / kWarp) + int(threadIdx.x % kWarp / 4);
    const uint32_t k = hopper::shared_address(&s.k) + 64 * consumer * hopper::kRowBytes;
    const uint32_t v = hopper::shared_address(&s.v) + 64 * consumer * hopper::kRowBytes;
    float dk[kHeadDim / 2], dv[kHeadDim / 2];
    uint32_t probabilities[kStepM / 16][4], differences[kStepM / 16][4];
    for (int round = 0; item_of(round) < items; round++) {
      const int in_tile = int(item_of(round) % per_tile), kv_head = in_tile / p.splits, split = in_tile % p.splits;
      const AttentionTile tile = p.tiles[item_of(round) / per_tile];
      if (tile.length == 0) continue;
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; i++) dk[i] = dv[i] = 0.f;
      hopper::hold(dk);
      hopper::hold(dv);
      hopper::wait(s.tile_full, filled % 2);
      for (int head = 0; head < heads_of(split); head++) {
        for (int first = tile.first; first < tile.length; first += kStepM, step++) {
          const Ring at(step);
          const uint32_t q = hopper::shared_address(&s.q[at.stage]), d_o = hopper::shared_address(&s.d_o[at.stage]);
          float scores[kStepM / 2], gradients[kStepM / 2];   // [64 keys][kStepM queries]
          hopper::wait(s.full[at.stage], at.parity);
          if (first + kStepM <= tile.first + 64 * consumer) {   // all keys of this warpgroup are after all queries
            release(s.empty[at.stage]);
            continue;
          }
          hopper::hold(scores);
          hopper::hold(gradients);
          hopper::wgmma_fence();
          multiply_heads<kTile>(scores, k, q);
          hopper::wgmma_commit();
          multiply_heads<kTile>(gradients, v, d_o);
          hopper::wgmma_commit();
          hopper::wgmma_wait<1>();
          hopper::hold(scores);
          if (first < tile.first + 64 * consumer + 63) {     // some key of this warpgroup is after some query
#pragma unroll
            for (int i = 0; i < kStepM / 2; i++) {
              if (first + column_of(i) < tile.first + row + 8 * half_of(i)) scores[i] = -kInfinity;
            }
          }
#pragma unroll
          for (int i = 0; i < kStepM / 2; i++) {
            scores[i] = exp2_approx(scores[i] * p.scale - s.lse[at.stage][column_of(i)]);
          }
          pack(probabilities, scores);
          hopper::hold(probabilities);
          hopper::hold(dv);
          hopper::wgmma_fence();
          multiply_rows<kStepM>(dv, probabilities, d_o);
          hopper::wgmma_commit();
          hopper::wgmma_wait<1>();
          hopper::hold(gradients);
#pragma unroll
          for (int i = 0; i < kStepM / 2; i++) {
            gradients[i] = scores[i] * (gradients[i] - s.delta[at.stage][column_of(i)]);
          }
          pack(differences, gradients);
          hopper::hold(differences);
          hopper::hold(dk);
          hopper::wgmma_fence();
          multiply_rows<kStepM>(dk, differences, q);
          hopper::wgmma_commit();
          hopper::wgmma_wait<0>();   // at H = 128 there are no registers to have these under way with the next scores
          hopper::hold(dv);
          hopper::hold(dk);
          hopper::hold(probabilities);
          hopper::hold(differences);
          release(s.empty[at.stage]);
        }
      }
      release(s.tile_empty);
      filled++;
      const int local = tile.first + row;
      const int64_t token = tile.start + local;
      const bool stored[2] = {local < tile.length, local + 8 < tile.length};
      const float scale = p.scale / kLog2E;
      if (p.splits == 1) {
        const int64_t at = token * p.dkv_stride + kv_head * kHeadDim;
        store_rows(p.dk + at, p.dkv_stride, dk, {scale, scale}, stored);
        store_rows(p.dv + at, p.dkv_stride, dv, {1.f, 1.f}, stored);
      } else {
        const int64_t stride = int64_t(2 * p.kv_heads) * kHeadDim;
        float* to = p.parts + (int64_t(split) * p.tokens + token) * stride + kv_head * kHeadDim;
        store_parts(to, stride, dk, scale, stored);
        store_parts(to + p.kv_heads * kHeadDim, stride, dv, 1.f, stored);
      }
    }
  }
}

struct BackwardQueriesShared {
  Rows<kTile> q, d_o;
  Rows<kStepN> k[kStepStages], v[kStepStages];
  hopper::Barrier tile_full, tile_empty;
  hopper::Barrier full[kStepStages], empty[kStepStages];
};

// The launcher says how much shared memory it gives; it computes that from the same constants.
#ifdef kForwardBytes
static_assert(sizeof(ForwardShared) == kForwardBytes && sizeof(BackwardKeysShared) == kBackwardKeysBytes &&
                  sizeof(BackwardQueriesShared) == kBackwardQueriesBytes,
              "same sizes as in AttentionHopper.Cuda.cs");
#endif

// Grid: as many blocks as the device holds at once.
Z1_KERNEL(kThreads, 1, attention_hopper_backward_queries, AttentionHopperBackwardParams) {
  auto& s = *shared_memory<BackwardQueriesShared>();
  using Ring = Place<kStepStages>;
  const int64_t items = int64_t(p.tile_count) * p.heads;
  if (threadIdx.x == 0) {
    hopper::barrier_init(s.tile_full, 1);
    hopper::barrier_init(s.tile_empty, kConsumerWarps);
    for (int i = 0; i < kStepStages; i++) {
      hopper::barrier_init(s.full[i], 1);
      hopper::barrier_init(s.empty[i], kConsumerWarps);
    }
    hopper::barrier_init_fence();
  }
  ptx::sync_threads();

  const int warpgroup = ptx::shfl(int(threadIdx.x) / hopper::kWarpgroup, 0);
  int step = 0, filled = 0;
  if (warpgroup == 0) {
    hopper::registers_decrease<kProducerRegisters>();
    if (threadIdx.x == 0) {
      for (int round = 0; item_of(round) < items; round++) {
        const int head = int(item_of(round) % p.heads);
        const AttentionTile tile = p.tiles[item_of(round) / p.heads];
        if (tile.length == 0) continue;
        const int key_slab = (p.heads + head / (p.heads / p.kv_heads)) * kSlabs;
        const int value_slab = key_slab + p.kv_heads * kSlabs;
        hopper::wait(s.tile_empty, filled % 2 ^ 1);
        hopper::arrive_expect(s.tile_full, sizeof(s.q) + sizeof(s.d_o));
        hopper::load_3d(&s.q, p.tile, s.tile_full, 0, tile.start + tile.first, head * kSlabs);
        hopper::load_3d(&s.d_o, p.gradient, s.tile_full, 0, tile.start + tile.first, head * kSlabs);
        filled++;
        const int end = min(tile.first + kTile, tile.length);
        for (int first = 0; first < end; first += kStepN, step++) {
          const Ring at(step);
          hopper::Barrier& full = s.full[at.stage];
          hopper::wait(s.empty[at.stage], at.parity ^ 1);
          hopper::arrive_expect(full, sizeof(s.k[0]) + sizeof(s.v[0]));
          hopper::load_3d(&s.k[at.stage], p.step, full, 0, tile.start + first, key_slab);
          hopper::load_3d(&s.v[at.stage], p.step, full, 0, tile.start + first, value_slab);
        }
      }
    }
  } else {
    hopper::registers_increase<kConsumerRegisters>();
    const int consumer = warpgroup - 1;
    const int row = 64 * consumer + 16 * int(threadIdx.x % hopper::kWarpgroup / kWarp) + int(threadIdx.x % kWarp / 4);
    const uint32_t q = hopper::shared_address(&s.q) + 64 * consumer * hopper::kRowBytes;
    const uint32_t d_o = hopper::shared_address(&s.d_o) + 64 * consumer * hopper::kRowBytes;
    float dq[kHeadDim / 2];
    uint32_t differences[kStepN / 16][4];
    for (int round = 0; item_of(round) < items; round++) {
      const int head = int(item_of(round) % p.heads);
      const AttentionTile tile = p.tiles[item_of(round) / p.heads];
      if (tile.length == 0) continue;
      const int local = tile.first + row;
      const int64_t token = tile.start + local;
      const bool stored[2] = {local < tile.length, local + 8 < tile.length};
      float lse[2], delta[2];
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int64_t from = (token + 8 * half) * p.heads + head;
        lse[half] = stored[half] ? p.lse[from] * kLog2E : kInfinity;
        delta[half] = stored[half] ? p.delta[from] : 0.f;
      }
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; i++) dq[i] = 0.f;
      hopper::hold(dq);
      hopper::wait(s.tile_full, filled % 2);
      const int end = min(tile.first + kTile, tile.length);
      int pending = -1;   // the stage that the dQ product under way reads
      for (int first = 0; first < end; first += kStepN, step++) {
        const Ring at(step);
        const uint32_t k = hopper::shared_address(&s.k[at.stage]), v = hopper::shared_address(&s.v[at.stage]);
        float scores[kStepN / 2], gradients[kStepN / 2];
        hopper::wait(s.full[at.stage], at.parity);
        if (first >= tile.first + 64 * (consumer + 1)) {   // all keys are after all queries of this warpgroup
          release(s.empty[at.stage]);
          continue;
        }
        hopper::hold(scores);
        hopper::hold(gradients);
        hopper::wgmma_fence();
        multiply_heads<kTile>(scores, q, k);
        hopper::wgmma_commit();
        multiply_heads<kTile>(gradients, d_o, v);
        hopper::wgmma_commit();
        hopper::wgmma_wait<2>();
        if (pending >= 0) release(s.empty[pending]);
        hopper::wgmma_wait<1>();
        hopper::hold(scores);
        hopper::hold(differences);
        if (first + kStepN > tile.first + 64 * consumer) {
#pragma unroll
          for (int i = 0; i < kStepN / 2; i++) {
            if (first + column_of(i) > local + 8 * half_of(i)) scores[i] = -kInfinity;
          }
        }
#pragma unroll
        for (int i = 0; i < kStepN / 2; i++) scores[i] = exp2_approx(scores[i] * p.scale - lse[half_of(i)]);
        hopper::wgmma_wait<0>();
        hopper::hold(gradients);
#pragma unroll
        for (int i = 0; i < kStepN / 2; i++) gradients[i] = scores[i] * (gradients[i] - delta[half_of(i)]);
        pack(differences, gradients);
        hopper::hold(differences);
        hopper::hold(dq);
        hopper::wgmma_fence();
        multiply_rows<kStepN>(dq, differences, k);
        hopper::wgmma_commit();
        pending = at.stage;
      }
      hopper::wgmma_wait<0>();
      hopper::hold(dq);
      hopper::hold(differences);
      release(s.empty[pending]);
      release(s.tile_empty);
      filled++;
      const float scale = p.scale / kLog2E;
      store_rows(p.dq + token * p.dq_stride + head * kHeadDim, p.dq_stride, dq, {scale, scale}, stored);
    }
  }
}

struct AttentionHopperSumParams {
  const float* parts;   // [splits, rows, columns]
  bf16* to;             // [rows, columns], row stride to_stride
  int64_t to_stride, rows;
  int splits, columns;  // columns: a multiple of 8
};
static_assert(sizeof(AttentionHopperSumParams) == 40, "same layout as AttentionHopper.SumParams");

// dk and dv: the splits added in order, rounded once. 8 columns a thread.
Z1_KERNEL(kSumThreads, 1, attention_hopper_sum, AttentionHopperSumParams) {
  const int64_t piece = int64_t(blockIdx.x) * kSumThreads + threadIdx.x, pieces = p.columns / 8;
  const int64_t row = piece / pieces;
  const int column = int(piece % pieces) * 8;
  if (row >= p.rows) return;
  Vec8 sum = Vec8::zero();
  for (int split = 0; split < p.splits; split++) {
    const float* from = p.parts + (split * p.rows + row) * p.columns + column;
    const Vec4 low = Vec4::load(from), high = Vec4::load(from + 4);
#pragma unroll
    for (int i = 0; i < 4; i++) sum[i] += low[i], sum[i + 4] += high[i];
  }
  sum.store(p.to + row * p.to_stride + column);
}
