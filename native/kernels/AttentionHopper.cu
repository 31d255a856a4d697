#include "hopper.cuh"

#ifndef kHeadDim
#define kHeadDim 128
#endif
#ifndef kTileN
#define kTileN 128
#endif
#ifndef kStages
#define kStages 2
#endif

static_assert(kHeadDim == 64 || kHeadDim == 128, "the head dims of Qwen2");
static_assert(kTileN == 64 || kTileN == 128 || kTileN == 192, "wgmma shapes in hopper.cuh");

#ifndef kStepM
#define kStepM 64
#endif
#ifndef kStepN
#define kStepN 64
#endif
#ifndef kStepStages
#define kStepStages 3
#endif

constexpr int kTileM = 128;
constexpr int kSlabs = kHeadDim / hopper::kSlab;
constexpr int kThreads = 3 * hopper::kWarpgroup;
constexpr int kConsumerWarps = 8;
constexpr int kConsumers = kConsumerWarps * kWarp;
constexpr int kFirstTurn = 1;
constexpr int kProducerRegisters = 24;
constexpr int kConsumerRegisters = 240;

struct AttentionTile { int start, first, length, unused; };

struct AttentionHopperForwardParams {
  hopper::TensorMap query, key;
  bf16* o;
  float* lse;
  const AttentionTile* tiles;
  int tile_count, heads, kv_heads;
  float scale;
};

struct alignas(1024) ForwardShared {
  bf16 q[kTileM * kHeadDim];
  bf16 k[kStages][kTileN * kHeadDim];
  bf16 v[kStages][kTileN * kHeadDim];
  hopper::Barrier q_full, q_empty;
  hopper::Barrier k_full[kStages], k_empty[kStages];
  hopper::Barrier v_full[kStages], v_empty[kStages];
};


// Item of a round: even rounds ascend, odd ones descend, so that the block that got the longest tile of one round gets the shortest
// of the next.
__device__ __forceinline__ int64_t item_of(int round) {
  const int column = round % 2 == 0 ? int(blockIdx.x) : int(gridDim.x) - 1 - int(blockIdx.x);
  return int64_t(round) * gridDim.x + column;
}

__device__ __forceinline__ int key_blocks(const AttentionTile& tile) {
  const int end = tile.first + kTileM < tile.length ? tile.first + kTileM : tile.length;
  return (end + kTileN - 1) / kTileN;
}

// s = A · Bᵀ over the head dim; A and B in slabs of 64 columns.
template <int N>
__device__ __forceinline__ void multiply_heads(float (&s)[N], uint32_t a, int a_rows, uint32_t b, int b_rows) {
  const uint64_t a_base = hopper::descriptor(a, 0, hopper::kAtomBytes);
  const uint64_t b_base = hopper::descriptor(b, 0, hopper::kAtomBytes);
#pragma unroll
  for (int slab = 0; slab < kSlabs; slab++) {
#pragma unroll
    for (int step = 0; step < 4; step++) {
      hopper::wgmma(s, hopper::advance(a_base, slab * a_rows * hopper::kSwizzleBytes + step * 32),
                    hopper::advance(b_base, slab * b_rows * hopper::kSwizzleBytes + step * 32), slab + step > 0);
    }
  }
}

// d += A · B over kRows rows of B; A in registers.
template <int kRows, int N>
__device__ __forceinline__ void multiply_rows(float (&d)[N], const uint32_t (&a)[kRows / 16][4], uint32_t b) {
  const uint64_t base = hopper::descriptor(b, kRows * hopper::kSwizzleBytes, hopper::kAtomBytes);
#pragma unroll
  for (int step = 0; step < kRows / 16; step++) {
    hopper::wgmma_transposed(d, a[step], hopper::advance(base, step * 16 * hopper::kSwizzleBytes));
  }
}

__device__ __forceinline__ void release(hopper::Barrier& barrier) {
  ptx::sync_warp();
  if (threadIdx.x % kWarp == 0) hopper::arrive(barrier);
}

template <int N>
__device__ __forceinline__ void pack(uint32_t (&a)[N / 8][4], const float (&s)[N]) {
#pragma unroll
  for (int i = 0; i < N / 8; i++) {
#pragma unroll
    for (int r = 0; r < 4; r++) a[i][r] = ptx::pack_bf16(s[8 * i + 2 * r], s[8 * i + 2 * r + 1]);
  }
}

// Four lanes hold one row: lane i piece i of each of four 16-byte chunks. Afterwards lane i holds chunk i.
__device__ __forceinline__ void transpose_quad(uint32_t (&x)[4]) {
  const int lane = threadIdx.x % 4;
  {
    const bool odd = lane & 1;
    const uint32_t a = ptx::shfl_xor(odd ? x[0] : x[1], 1), b = ptx::shfl_xor(odd ? x[2] : x[3], 1);
    if (odd) { x[0] = a; x[2] = b; } else { x[1] = a; x[3] = b; }
  }
  {
    const bool high = lane & 2;
    const uint32_t a = ptx::shfl_xor(high ? x[0] : x[2], 2), b = ptx::shfl_xor(high ? x[1] : x[3], 2);
    if (high) { x[0] = a; x[1] = b; } else { x[2] = a; x[3] = b; }
  }
}

// Rows of this thread to memory: 16 bytes at a time.
template <int N>
__device__ __forceinline__ void store_rows(bf16* out, int64_t stride, const float (&d)[N], float low_scale, float high_scale, bool low_row,
                          bool high_row) {
#pragma unroll
  for (int group = 0; group < N / 16; group++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const float scale = half ? high_scale : low_scale;
      uint32_t x[4];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const int at = 16 * group + 4 * j + 2 * half;
        x[j] = ptx::pack_bf16(d[at] * scale, d[at + 1] * scale);
      }
      transpose_quad(x);
      if (half ? high_row : low_row) {
        ptx::store_16(out + (half ? 8 * stride : 0) + 32 * group + 8 * (threadIdx.x % 4), uint4{x[0], x[1], x[2], x[3]});
      }
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

// One block of scores into probabilities. row: this thread's lower row minus the block's first key.
template <int N>
__device__ __forceinline__ void softmax_block(float (&s)[N], float (&maximum)[2], float (&sum)[2], float (&rescale)[2], float scale, int row,
                             bool masked) {
  if (masked) {
#pragma unroll
    for (int i = 0; i < N; i++) {
      const int column = 8 * (i / 4) + 2 * (threadIdx.x % 4) + i % 2;
      if (column > row + 8 * (i / 2 % 2)) s[i] = -kInfinity;
    }
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float high = maximum[half];
#pragma unroll
    for (int j = 0; j < N / 4; j++) high = fmaxf(high, fmaxf(s[4 * j + 2 * half], s[4 * j + 2 * half + 1]));
    high = quad_max(high);
    const float base = high == -kInfinity ? 0.f : high * scale;
    rescale[half] = exp2_approx(maximum[half] * scale - base);
    maximum[half] = high;
    float total = 0.f;
#pragma unroll
    for (int j = 0; j < N / 4; j++) {
#pragma unroll
      for (int c = 0; c < 2; c++) {
        float& x = s[4 * j + 2 * half + c];
        x = exp2_approx(x * scale - base);
        total += x;
      }
    }
    sum[half] = sum[half] * rescale[half] + total;
  }
}

Z1_KERNEL(kThreads, 1, attention_hopper_forward, AttentionHopperForwardParams) {
  auto& s = *shared_memory<ForwardShared>();
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

  const int warpgroup = ptx::shfl(int(threadIdx.x) / hopper::kWarpgroup, 0);
  if (warpgroup == 0) {
    hopper::registers_decrease<kProducerRegisters>();
    if (threadIdx.x == 0) {
      hopper::prefetch(p.query);
      hopper::prefetch(p.key);
      int count = 0, filled = 0;
      for (int round = 0; item_of(round) < items; round++) {
        const int64_t item = item_of(round);
        const int head = int(item % p.heads);
        const AttentionTile tile = p.tiles[item / p.heads];
        if (tile.length == 0) continue;
        const int key_slab = (p.heads + head / (p.heads / p.kv_heads)) * kSlabs;
        const int value_slab = key_slab + p.kv_heads * kSlabs;
        for (int block = key_blocks(tile) - 1, first = 1; block >= 0; block--, first = 0, count++) {
          const int stage = count % kStages, parity = count / kStages % 2, token = tile.start + block * kTileN;
          hopper::wait(s.k_empty[stage], parity ^ 1);
          hopper::arrive_expect(s.k_full[stage], int(sizeof(s.k[stage])));
          hopper::load_3d(s.k[stage], p.key, s.k_full[stage], 0, token, key_slab);
          if (first) {
            hopper::wait(s.q_empty, filled % 2 ^ 1);
            hopper::arrive_expect(s.q_full, int(sizeof(s.q)));
            hopper::load_3d(s.q, p.query, s.q_full, 0, tile.start + tile.first, head * kSlabs);
          }
          hopper::wait(s.v_empty[stage], parity ^ 1);
          hopper::arrive_expect(s.v_full[stage], int(sizeof(s.v[stage])));
          hopper::load_3d(s.v[stage], p.key, s.v_full[stage], 0, token, value_slab);
        }
        filled++;
      }
    }
  } else {
    hopper::registers_increase<kConsumerRegisters>();
    const int consumer = warpgroup - 1;
    const int row = 64 * consumer + 16 * (threadIdx.x % hopper::kWarpgroup / kWarp) + threadIdx.x % kWarp / 4;
    const uint32_t q = hopper::shared_address(s.q) + 64 * consumer * hopper::kSwizzleBytes;
    float scores[kTileN / 2], out[kHeadDim / 2], maximum[2], sum[2], rescale[2];
    uint32_t probabilities[kTileN / 16][4];
    int count = 0, filled = 0;
    if (consumer == 1) ptx::bar_arrive(kFirstTurn, kConsumers);
    for (int round = 0; item_of(round) < items; round++) {
      const int64_t item = item_of(round);
      const int head = int(item % p.heads);
      const AttentionTile tile = p.tiles[item / p.heads];
      if (tile.length == 0) continue;
      int block = key_blocks(tile) - 1;
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; i++) out[i] = 0.f;
      maximum[0] = maximum[1] = -kInfinity;
      sum[0] = sum[1] = 0.f;

      hopper::wait(s.q_full, filled % 2);
      hopper::wait(s.k_full[count % kStages], count / kStages % 2);
      ptx::bar_sync(kFirstTurn + consumer, kConsumers);
      hopper::hold(scores);
      hopper::wgmma_fence();
      multiply_heads(scores, q, kTileM, hopper::shared_address(s.k[count % kStages]), kTileN);
      hopper::wgmma_commit();
      ptx::bar_arrive(kFirstTurn + 1 - consumer, kConsumers);
      hopper::wgmma_wait<0>();
      hopper::hold(scores);
      release(s.k_empty[count % kStages]);
      softmax_block(scores, maximum, sum, rescale, p.scale, tile.first + row - block * kTileN,
                    (block + 1) * kTileN > tile.first + 64 * consumer);
      pack(probabilities, scores);

      for (block--; block >= 0; block--, count++) {
        const int next = (count + 1) % kStages, stage = count % kStages;
        hopper::wait(s.k_full[next], (count + 1) / kStages % 2);
        ptx::bar_sync(kFirstTurn + consumer, kConsumers);
        hopper::hold(scores);
        hopper::hold(out);
        hopper::hold(probabilities);
        hopper::wgmma_fence();
        multiply_heads(scores, q, kTileM, hopper::shared_address(s.k[next]), kTileN);
        hopper::wgmma_commit();
        hopper::wait(s.v_full[stage], count / kStages % 2);
        multiply_rows<kTileN>(out, probabilities, hopper::shared_address(s.v[stage]));
        hopper::wgmma_commit();
        ptx::bar_arrive(kFirstTurn + 1 - consumer, kConsumers);
        hopper::wgmma_wait<1>();
        hopper::hold(scores);
        release(s.k_empty[next]);
        softmax_block(scores, maximum, sum, rescale, p.scale, tile.first + row - block * kTileN,
                      (block + 1) * kTileN > tile.first + 64 * consumer);
        hopper::wgmma_wait<0>();
        hopper::hold(out);
        hopper::hold(probabilities);
        release(s.v_empty[stage]);
#pragma unroll
        for (int i = 0; i < kHeadDim / 2; i++) out[i] *= rescale[i / 2 % 2];
        pack(probabilities, scores);
      }
      release(s.q_empty);
      filled++;

      const int stage = count % kStages;
      hopper::wait(s.v_full[stage], count / kStages % 2);
      hopper::hold(out);
      hopper::hold(probabilities);
      hopper::wgmma_fence();
      multiply_rows<kTileN>(out, probabilities, hopper::shared_address(s.v[stage]));
      hopper::wgmma_commit();
      hopper::wgmma_wait<0>();
      hopper::hold(out);
      release(s.v_empty[stage]);
      count++;

      const float low = quad_sum(sum[0]), high = quad_sum(sum[1]);
      const int local = tile.first + row;
      const int64_t token = tile.start + local;
      const bool low_row = local < tile.length, high_row = local + 8 < tile.length;
      const int64_t stride = int64_t(p.heads) * kHeadDim;
      store_rows(p.o + token * stride + head * kHeadDim, stride, out, 1.f / low, 1.f / high, low_row, high_row);
      if (threadIdx.x % 4 == 0) {
        constexpr float kLn2 = 0.693147180559945f;
        if (low_row) p.lse[token * p.heads + head] = (maximum[0] * p.scale + log2f(low)) * kLn2;
        if (high_row) p.lse[(token + 8) * p.heads + head] = (maximum[1] * p.scale + log2f(high)) * kLn2;
      }
    }
    if (consumer == 0) ptx::bar_sync(kFirstTurn, kConsumers);
  }
}

struct AttentionHopperBackwardParams {
  hopper::TensorMap tile;
  hopper::TensorMap step;
  hopper::TensorMap gradient;
  const float* lse;
  const float* delta;
  bf16* dq;
  bf16* dk;
  bf16* dv;
  const AttentionTile* tiles;
  int64_t dq_stride, dkv_stride;
  int tile_count, heads, kv_heads;
  float scale;
};

constexpr float kLog2E = 1.44269504088896f;

struct alignas(1024) BackwardKeysShared {
  bf16 k[kTileM * kHeadDim];
  bf16 v[kTileM * kHeadDim];
  bf16 q[kStepStages][kStepM * kHeadDim];
  bf16 d_o[kStepStages][kStepM * kHeadDim];
  float lse[kStepStages][kStepM];
  float delta[kStepStages][kStepM];
  hopper::Barrier tile_full, tile_empty;
  hopper::Barrier full[kStepStages], empty[kStepStages];
};

Z1_KERNEL(kThreads, 1, attention_hopper_backward_keys, AttentionHopperBackwardParams) {
  auto& s = *shared_memory<BackwardKeysShared>();
  const int64_t items = int64_t(p.tile_count) * p.kv_heads;
  const int group = p.heads / p.kv_heads;
  if (threadIdx.x == 0) {
    hopper::barrier_init(s.tile_full, 1);
    hopper::barrier_init(s.tile_empty, kConsumerWarps);
    for (int i = 0; i < kStepStages; i++) {
      hopper::barrier_init(s.full[i], 1 + kWarp);
      hopper::barrier_init(s.empty[i], kConsumerWarps);
    }
    hopper::barrier_init_fence();
  }
  ptx::sync_threads();

  const int warpgroup = ptx::shfl(int(threadIdx.x) / hopper::kWarpgroup, 0);
  if (warpgroup == 0) {
    hopper::registers_decrease<kProducerRegisters>();
    if (threadIdx.x < kWarp) {
      int count = 0, filled = 0;
      for (int round = 0; item_of(round) < items; round++) {
        const int64_t item = item_of(round);
        const int kv_head = int(item % p.kv_heads);
        const AttentionTile tile = p.tiles[item / p.kv_heads];
        if (tile.length == 0) continue;
        if (threadIdx.x == 0) {
          hopper::wait(s.tile_empty, filled % 2 ^ 1);
          hopper::arrive_expect(s.tile_full, int(sizeof(s.k) + sizeof(s.v)));
          hopper::load_3d(s.k, p.tile, s.tile_full, 0, tile.start + tile.first, (p.heads + kv_head) * kSlabs);
          hopper::load_3d(s.v, p.tile, s.tile_full, 0, tile.start + tile.first, (p.heads + p.kv_heads + kv_head) * kSlabs);
        }
        filled++;
        for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
          for (int first = tile.first; first < tile.length; first += kStepM, count++) {
            const int stage = count % kStepStages;
            hopper::wait(s.empty[stage], count / kStepStages % 2 ^ 1);
            if (threadIdx.x == 0) {
              hopper::arrive_expect(s.full[stage], int(sizeof(s.q[0]) + sizeof(s.d_o[0])));
              hopper::load_3d(s.q[stage], p.step, s.full[stage], 0, tile.start + first, head * kSlabs);
              hopper::load_3d(s.d_o[stage], p.gradient, s.full[stage], 0, tile.start + first, head * kSlabs);
            }
#pragma unroll
            for (int i = 0; i < kStepM / kWarp; i++) {
              const int row = i * kWarp + int(threadIdx.x);
              const bool valid = first + row < tile.length;
              const int64_t at = int64_t(tile.start + first + row) * p.heads + head;
              s.lse[stage][row] = valid ? p.lse[at] * kLog2E : kInfinity;
              s.delta[stage][row] = valid ? p.delta[at] : 0.f;
            }
            hopper::arrive(s.full[stage]);
          }
        }
      }
    }
  } else {
    hopper::registers_increase<kConsumerRegisters>();
    const int consumer = warpgroup - 1, lane = threadIdx.x % kWarp;
    const int row = 64 * consumer + 16 * (threadIdx.x % hopper::kWarpgroup / kWarp) + lane / 4;
    const uint32_t k = hopper::shared_address(s.k) + 64 * consumer * hopper::kSwizzleBytes;
    const uint32_t v = hopper::shared_address(s.v) + 64 * consumer * hopper::kSwizzleBytes;
    float dk[kHeadDim / 2], dv[kHeadDim / 2];
    uint32_t a[kStepM / 16][4], b[kStepM / 16][4];
    int count = 0, filled = 0;
    for (int round = 0; item_of(round) < items; round++) {
      const int64_t item = item_of(round);
      const int kv_head = int(item % p.kv_heads);
      const AttentionTile tile = p.tiles[item / p.kv_heads];
      if (tile.length == 0) continue;
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; i++) dk[i] = dv[i] = 0.f;
      hopper::hold(dk);
      hopper::hold(dv);
      hopper::wait(s.tile_full, filled % 2);
      for (int head = 0; head < group; head++) {
        for (int first = tile.first; first < tile.length; first += kStepM, count++) {
          const int stage = count % kStepStages;
          hopper::wait(s.full[stage], count / kStepStages % 2);
          float scores[kStepM / 2], gradients[kStepM / 2];
          hopper::hold(scores);
          hopper::hold(gradients);
          hopper::wgmma_fence();
          multiply_heads(scores, k, kTileM, hopper::shared_address(s.q[stage]), kStepM);
          hopper::wgmma_commit();
          multiply_heads(gradients, v, kTileM, hopper::shared_address(s.d_o[stage]), kStepM);
          hopper::wgmma_commit();
          hopper::wgmma_wait<1>();
          hopper::hold(scores);
          if (first < tile.first + 64 * consumer + 63) {
#pragma unroll
            for (int i = 0; i < kStepM / 2; i++) {
              const int column = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
              if (first + column < tile.first + row + 8 * (i / 2 % 2)) scores[i] = -kInfinity;
            }
          }
#pragma unroll
          for (int i = 0; i < kStepM / 2; i++) {
            const int column = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
            scores[i] = exp2_approx(scores[i] * p.scale - s.lse[stage][column]);
          }
          pack(a, scores);
          hopper::hold(a);
          hopper::hold(dv);
          hopper::wgmma_fence();
          multiply_rows<kStepM>(dv, a, hopper::shared_address(s.d_o[stage]));
          hopper::wgmma_commit();
          hopper::wgmma_wait<1>();
          hopper::hold(gradients);
#pragma unroll
          for (int i = 0; i < kStepM / 2; i++) {
            const int column = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
            gradients[i] = scores[i] * (gradients[i] - s.delta[stage][column]);
          }
          pack(b, gradients);
          hopper::hold(b);
          hopper::hold(dk);
          hopper::wgmma_fence();
          multiply_rows<kStepM>(dk, b, hopper::shared_address(s.q[stage]));
          hopper::wgmma_commit();
          hopper::wgmma_wait<0>();
          hopper::hold(dv);
          hopper::hold(dk);
          hopper::hold(a);
          hopper::hold(b);
          release(s.empty[stage]);
        }
      }
      release(s.tile_empty);
      filled++;
      const int local = tile.first + row;
      const int64_t at = (tile.start + local) * p.dkv_stride + kv_head * kHeadDim;
      const bool low_row = local < tile.length, high_row = local + 8 < tile.length;
      const float scale = p.scale / kLog2E;
      store_rows(p.dk + at, p.dkv_stride, dk, scale, scale, low_row, high_row);
      store_rows(p.dv + at, p.dkv_stride, dv, 1.f, 1.f, low_row, high_row);
    }
  }
}

struct alignas(1024) BackwardQueriesShared {
  bf16 q[kTileM * kHeadDim];
  bf16 d_o[kTileM * kHeadDim];
  bf16 k[kStepStages][kStepN * kHeadDim];
  bf16 v[kStepStages][kStepN * kHeadDim];
  hopper::Barrier tile_full, tile_empty;
  hopper::Barrier full[kStepStages], empty[kStepStages];
};

Z1_KERNEL(kThreads, 1, attention_hopper_backward_queries, AttentionHopperBackwardParams) {
  auto& s = *shared_memory<BackwardQueriesShared>();
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
  if (warpgroup == 0) {
    hopper::registers_decrease<kProducerRegisters>();
    if (threadIdx.x == 0) {
      int count = 0, filled = 0;
      for (int round = 0; item_of(round) < items; round++) {
        const int64_t item = item_of(round);
        const int head = int(item % p.heads);
        const AttentionTile tile = p.tiles[item / p.heads];
        if (tile.length == 0) continue;
        const int key_slab = (p.heads + head / (p.heads / p.kv_heads)) * kSlabs, value_slab = key_slab + p.kv_heads * kSlabs;
        hopper::wait(s.tile_empty, filled % 2 ^ 1);
        hopper::arrive_expect(s.tile_full, int(sizeof(s.q) + sizeof(s.d_o)));
        hopper::load_3d(s.q, p.tile, s.tile_full, 0, tile.start + tile.first, head * kSlabs);
        hopper::load_3d(s.d_o, p.gradient, s.tile_full, 0, tile.start + tile.first, head * kSlabs);
        filled++;
        const int end = min(tile.first + kTileM, tile.length);
        for (int first = 0; first < end; first += kStepN, count++) {
          const int stage = count % kStepStages;
          hopper::wait(s.empty[stage], count / kStepStages % 2 ^ 1);
          hopper::arrive_expect(s.full[stage], int(sizeof(s.k[0]) + sizeof(s.v[0])));
          hopper::load_3d(s.k[stage], p.step, s.full[stage], 0, tile.start + first, key_slab);
          hopper::load_3d(s.v[stage], p.step, s.full[stage], 0, tile.start + first, value_slab);
        }
      }
    }
  } else {
    hopper::registers_increase<kConsumerRegisters>();
    const int consumer = warpgroup - 1, lane = threadIdx.x % kWarp;
    const int row = 64 * consumer + 16 * (threadIdx.x % hopper::kWarpgroup / kWarp) + lane / 4;
    const uint32_t q = hopper::shared_address(s.q) + 64 * consumer * hopper::kSwizzleBytes;
    const uint32_t d_o = hopper::shared_address(s.d_o) + 64 * consumer * hopper::kSwizzleBytes;
    float dq[kHeadDim / 2];
    uint32_t a[kStepN / 16][4];
    int count = 0, filled = 0;
    for (int round = 0; item_of(round) < items; round++) {
      const int64_t item = item_of(round);
      const int head = int(item % p.heads);
      const AttentionTile tile = p.tiles[item / p.heads];
      if (tile.length == 0) continue;
      const int local = tile.first + row;
      const bool low_row = local < tile.length, high_row = local + 8 < tile.length;
      const int64_t token = tile.start + local;
      const float lse[2] = {low_row ? p.lse[token * p.heads + head] * kLog2E : kInfinity,
                            high_row ? p.lse[(token + 8) * p.heads + head] * kLog2E : kInfinity};
      const float delta[2] = {low_row ? p.delta[token * p.heads + head] : 0.f,
                              high_row ? p.delta[(token + 8) * p.heads + head] : 0.f};
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; i++) dq[i] = 0.f;
      hopper::hold(dq);
      hopper::wait(s.tile_full, filled % 2);
      const int end = min(tile.first + kTileM, tile.length);
      int pending = -1;
      for (int first = 0; first < end; first += kStepN, count++) {
        const int stage = count % kStepStages;
        hopper::wait(s.full[stage], count / kStepStages % 2);
        float scores[kStepN / 2], gradients[kStepN / 2];
        hopper::hold(scores);
        hopper::hold(gradients);
        hopper::wgmma_fence();
        multiply_heads(scores, q, kTileM, hopper::shared_address(s.k[stage]), kStepN);
        hopper::wgmma_commit();
        multiply_heads(gradients, d_o, kTileM, hopper::shared_address(s.v[stage]), kStepN);
        hopper::wgmma_commit();
        hopper::wgmma_wait<2>();
        if (pending >= 0) release(s.empty[pending]);
        hopper::wgmma_wait<1>();
        hopper::hold(scores);
        hopper::hold(a);
        if (first + kStepN > tile.first + 64 * consumer) {
#pragma unroll
          for (int i = 0; i < kStepN / 2; i++) {
            const int column = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
            if (first + column > local + 8 * (i / 2 % 2)) scores[i] = -kInfinity;
          }
        }
#pragma unroll
        for (int i = 0; i < kStepN / 2; i++) scores[i] = exp2_approx(scores[i] * p.scale - lse[i / 2 % 2]);
        hopper::wgmma_wait<0>();
        hopper::hold(gradients);
#pragma unroll
        for (int i = 0; i < kStepN / 2; i++) gradients[i] = scores[i] * (gradients[i] - delta[i / 2 % 2]);
        pack(a, gradients);
        hopper::hold(a);
        hopper::hold(dq);
        hopper::wgmma_fence();
        multiply_rows<kStepN>(dq, a, hopper::shared_address(s.k[stage]));
        hopper::wgmma_commit();
        pending = stage;
      }
      hopper::wgmma_wait<0>();
      hopper::hold(dq);
      hopper::hold(a);
      release(s.empty[pending]);
      release(s.tile_empty);
      filled++;
      const float scale = p.scale / kLog2E;
      store_rows(p.dq + token * p.dq_stride + head * kHeadDim, p.dq_stride, dq, scale, scale, low_row, high_row);
    }
  }
}
