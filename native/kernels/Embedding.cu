// Row lookup over weight [V, D]: y[t] = weight[tokens[t]], bit for bit. Backward: dweight[tokens[t]] += dy[t] in fp32,
// the rows of equal tokens in the order of t.
// Parallel: one block per token. Backward without atomics: the block of a token's first occurrence adds the rows of
// every later one, the other blocks leave at once. The running row is in shared memory.
// Floor: bytes. Forward 4 · D per token. Backward 2 · D per token read, 8 · D per distinct token; the scans read
// tokens from L2, at most 4 · T bytes per block.
// Rounding: none.
#include "z1.cuh"

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kChunk = 8 * kThreads;  // tokens looked at between two barriers
constexpr int kWords = kChunk / kWarp;

struct EmbeddingForwardParams {
  const int* tokens;
  const bf16* weight;
  bf16* y;
  int columns;
};
static_assert(sizeof(EmbeddingForwardParams) == 32, "Embedding.ForwardParams in Embedding.Cuda.cs");

struct EmbeddingBackwardParams {
  const int* tokens;
  const bf16* dy;
  float* dweight;
  int count;
  int columns;
};
static_assert(sizeof(EmbeddingBackwardParams) == 32, "Embedding.BackwardParams in Embedding.Cuda.cs");

struct BackwardShared {
  uint32_t matches[kWords];  // bit j of word w: token w · kWarp + j of the chunk is the same
  int list[kChunk];          // the matching tokens of the chunk, ascending
};

Z1_KERNEL(kThreads, 8, embedding_forward, EmbeddingForwardParams) {
  const bf16* from = p.weight + int64_t(p.tokens[blockIdx.x]) * p.columns;
  bf16* to = p.y + int64_t(blockIdx.x) * p.columns;
  if (p.columns % 8 == 0) {
    for (int c = 8 * int(threadIdx.x); c < p.columns; c += 8 * kThreads) ptx::store_16(to + c, ptx::load_16(from + c));
  } else {
    for (int c = int(threadIdx.x); c < p.columns; c += kThreads) to[c] = from[c];
  }
}

// How many bits are set, by adding neighbours.
__device__ __forceinline__ int ones(uint32_t word) {
  word -= word >> 1 & 0x55555555u;
  word = (word & 0x33333333u) + (word >> 2 & 0x33333333u);
  return int(((word + (word >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24);
}

// Lists in s.list which tokens of [first, min(first + kChunk, last)) are `token` and returns how many.
__device__ __forceinline__ int find(BackwardShared& s, const int* tokens, int first, int last, int token) {
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  ptx::sync_threads();
  for (int w = warp; w < kWords; w += kWarps) {
    const int t = first + w * kWarp + lane;
    const uint32_t same = ptx::ballot(t < last && tokens[t] == token);
    if (lane == 0) s.matches[w] = same;
  }
  ptx::sync_threads();
  int count = 0;
  for (int w = 0; w < kWords; ++w) {
    const uint32_t word = s.matches[w];
    if (w % kWarps == warp && (word >> lane & 1) != 0) {
      s.list[count + ones(word & ((1u << lane) - 1))] = first + w * kWarp + lane;
    }
    count += ones(word);
  }
  ptx::sync_threads();
  return count;
}

Z1_KERNEL(kThreads, 8, embedding_backward, EmbeddingBackwardParams) {
  BackwardShared& s = *shared_memory<BackwardShared>();
  float* sum = reinterpret_cast<float*>(&s + 1);  // [columns]; a thread keeps to its columns
  const int own = int(blockIdx.x);
  const int token = p.tokens[own];
  for (int first = 0; first < own; first += kChunk) {
    if (find(s, p.tokens, first, own, token) != 0) return;
  }
  float* target = p.dweight + int64_t(token) * p.columns;
  const bool vectors = p.columns % 8 == 0;
  if (vectors) {
    for (int c = 8 * int(threadIdx.x); c < p.columns; c += 8 * kThreads) {
      Vec4::load(target + c).store(sum + c);
      Vec4::load(target + c + 4).store(sum + c + 4);
    }
  } else {
    for (int c = int(threadIdx.x); c < p.columns; c += kThreads) sum[c] = target[c];
  }
  for (int first = own; first < p.count; first += kChunk) {
    const int found = find(s, p.tokens, first, p.count, token);
    if (vectors) {
      for (int c = 8 * int(threadIdx.x); c < p.columns && found != 0; c += 8 * kThreads) {
        Vec4 low = Vec4::load(sum + c), high = Vec4::load(sum + c + 4);
        for (int j = 0; j < found; ++j) {
          const Vec8 dy = Vec8::load_nc(p.dy + int64_t(s.list[j]) * p.columns + c);
          for (int i = 0; i < 4; ++i) {
            low[i] += dy[i];
            high[i] += dy[i + 4];
          }
        }
        low.store(sum + c);
        high.store(sum + c + 4);
      }
    } else {
      for (int c = int(threadIdx.x); c < p.columns && found != 0; c += kThreads) {
        float total = sum[c];
        for (int j = 0; j < found; ++j) total += to_float(p.dy[int64_t(s.list[j]) * p.columns + c]);
        sum[c] = total;
      }
    }
  }
  if (vectors) {
    for (int c = 8 * int(threadIdx.x); c < p.columns; c += 8 * kThreads) {
      Vec4::load(sum + c).store(target + c);
      Vec4::load(sum + c + 4).store(target + c + 4);
    }
  } else {
    for (int c = int(threadIdx.x); c < p.columns; c += kThreads) target[c] = sum[c];
  }
}
