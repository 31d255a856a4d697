// token = a draw from softmax(x / temperature) of each row of x [R, V], cut to the topK largest and of those to the
// fewest whose share reaches topP. Sample.cs has the rule; the tokens are the CPU's, because weights are integers.
// Parallel: one block per row. A cut is found in eight passes over the row, two bits of the 16-bit key each, by sums
// over the block; then the draw narrows a range of columns, a sixteenth per warp, until one thread walks it. Floor:
// bytes, 2 · V read per row; the later passes come from the L2 cache.
#include "z1.cuh"

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarp;

struct SampleParams {
  const bf16* logits;
  const float* temperature;
  const float* top_p;
  const int* top_k;
  const uint64_t* seed;
  const int* counter;
  int* token;
  int columns;
  int scale;
};
static_assert(sizeof(SampleParams) == 64, "Sample.Params in Sample.Cuda.cs");

struct Shared {
  uint64_t scratch[kWarp];
  uint64_t above[kWarps];
  int ties[kWarps];
};
static_assert(sizeof(Shared) <= 512, "Sample.SharedBytes in Sample.Cuda.cs");

// Ordered as the values are: −0 is +0, a NaN is below all.
__device__ __forceinline__ uint32_t key_of(float x) {
  if (x != x) return 0;
  if (x == 0) return 0x8000;
  const uint32_t bits = float_bits(x) >> 16;
  return bits & 0x8000u ? ~bits & 0xffffu : bits | 0x8000u;
}
__device__ __forceinline__ float value_of(uint32_t key) {
  return bits_float((key & 0x8000u ? key & 0x7fffu : ~key & 0xffffu) << 16);
}

__device__ __forceinline__ float divide(float a, float b) {
#ifdef Z1_HOSTCUDA
  return a / b;
#else
  return __fdiv_rn(a, b);
#endif
}

// The 128-bit product's upper half.
__device__ __forceinline__ uint64_t multiply_high(uint64_t a, uint64_t b) {
#ifdef Z1_HOSTCUDA
  return uint64_t(static_cast<unsigned __int128>(a) * b >> 64);
#else
  return __umul64hi(a, b);
#endif
}

struct Row {
  const bf16* x;
  int columns;
  float top;
  float temperature;
  int scale;

  // Sample.Weight, operation by operation.
  __device__ __forceinline__ uint64_t weight(float value) const {
    if (top == kInfinity) return value == top ? 1 : 0;
    const float z = divide(value - top, temperature);
    if (!(z > -32.0f)) return 0;
    const float shifter = 12582912.0f;
    const float n = fmaf(z, 1.442695f, shifter) - shifter;
    float r = fmaf(n, -0.6931472f, z);
    r = fmaf(n, 1.9046542e-9f, r);
    float e = fmaf(0.0013926213f, r, 0.008363203f);
    e = fmaf(e, r, 0.041666556f);
    e = fmaf(e, r, 0.16666576f);
    e = fmaf(e, r, 0.5f);
    e = fmaf(e, r, 1.0f);
    e = fmaf(e, r, 1.0f);
    const uint32_t bits = float_bits(e);
    const uint64_t mantissa = (bits & 0x7fffffu) | 0x800000u;
    const int shift = int(bits >> 23) - 150 + scale + int(n);
    return shift >= 0 ? mantissa << shift : (mantissa + (uint64_t(1) << (-shift - 1))) >> -shift;
  }

  // visit(value, column) for every column, spread over the block.
  template <class Visit> __device__ __forceinline__ void each(Visit visit) const {
    if (columns % 8 == 0) {
      for (int c = 8 * int(threadIdx.x); c < columns; c += 8 * kThreads) {
        const Vec8 v = Vec8::load_nc(x + c);
        for (int i = 0; i < 8; ++i) visit(v[i], c + i);
      }
    } else {
      for (int c = int(threadIdx.x); c < columns; c += kThreads) visit(to_float(x[c]), c);
    }
  }
};

// Kept are the keys above `key`, `above` in sum, and the first `ties` elements that have it.
struct Cut {
  uint32_t key;
  uint64_t above;
  uint64_t ties;
};

// The largest key at which the sum over all keys not below it reaches the target. measure(value): what one counts.
template <class Measure>
__device__ __forceinline__ Cut find(const Row& row, uint64_t target, uint64_t* scratch, Measure measure) {
  Cut cut{0, 0, 0};
  for (int shift = 14; shift >= 0; shift -= 2) {
    const uint32_t first = cut.key >> shift;
    uint64_t one = 0, two = 0, three = 0;
    row.each([&](float value, int) {
      const uint32_t digit = (key_of(value) >> shift) - first;
      if (digit - 1 < 3) {
        const uint64_t m = measure(value);
        one += digit == 1 ? m : 0;
        two += digit == 2 ? m : 0;
        three += digit == 3 ? m : 0;
      }
    });
    three = block_sum(three, scratch);
    two = block_sum(two, scratch);
    one = block_sum(one, scratch);
    uint32_t digit = 3;
    if (cut.above + three < target) {
      cut.above += three;
      digit = 2;
      if (cut.above + two < target) {
        cut.above += two;
        digit = 1;
        if (cut.above + one < target) {
          cut.above += one;
          digit = 0;
        }
      }
    }
    cut.key |= digit << shift;
  }
  cut.ties = target - cut.above;
  return cut;
}

// Sample.Target: max(1, ⌈p · total⌉).
__device__ __forceinline__ uint64_t target_of(float p, uint64_t total) {
  const uint32_t bits = float_bits(p);
  const int right = 150 - int(bits >> 23);
  if (right >= 88) return 1;
  const uint64_t mantissa = (bits & 0x7fffffu) | 0x800000u;
  const uint64_t low = mantissa * total, high = multiply_high(mantissa, total);
  uint64_t whole, rest;
  if (right >= 64) {
    whole = high >> (right - 64);
    rest = low | (high & ((uint64_t(1) << (right - 64)) - 1));
  } else {
    whole = high << (64 - right) | low >> right;
    rest = low & ((uint64_t(1) << right) - 1);
  }
  whole += rest != 0 ? 1 : 0;
  return whole > 1 ? whole : 1;
}

// The first kept column whose running weight exceeds `left`; every thread gets it.
__device__ __forceinline__ int draw(const Row& row, Cut cut, uint64_t left, Shared& s) {
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  const uint64_t tie = row.weight(value_of(cut.key));
  int begin = 0, end = row.columns;
  while (end - begin > kWarp) {
    const int piece = (end - begin + kWarps - 1) / kWarps;
    const int last = end - begin < (warp + 1) * piece ? end : begin + (warp + 1) * piece;
    uint64_t above = 0;
    int ties = 0;
    for (int c = begin + warp * piece + lane; c < last; c += kWarp) {
      const float value = to_float(row.x[c]);
      const uint32_t key = key_of(value);
      if (key > cut.key) above += row.weight(value);
      ties += key == cut.key ? 1 : 0;
    }
    above = warp_sum(above);
    ties = warp_sum(ties);
    ptx::sync_threads();
    if (lane == 0) {
      s.above[warp] = above;
      s.ties[warp] = ties;
    }
    ptx::sync_threads();
    for (int w = 0; w < kWarps; ++w) {
      const uint64_t kept = uint64_t(s.ties[w]) < cut.ties ? uint64_t(s.ties[w]) : cut.ties;
      const uint64_t sum = s.above[w] + kept * tie;
      if (left < sum) {
        const int start = begin + w * piece;
        end = end - start < piece ? end : start + piece;
        begin = start;
        break;
      }
      left -= sum;
      cut.ties -= kept;
    }
  }
  for (int c = begin; c < end; ++c) {
    const float value = to_float(row.x[c]);
    const uint32_t key = key_of(value);
    uint64_t weight = 0;
    if (key > cut.key) {
      weight = row.weight(value);
    } else if (key == cut.key && cut.ties > 0) {
      weight = tie;
      --cut.ties;
    }
    if (left < weight) return c;
    left -= weight;
  }
  return 0;
}

Z1_KERNEL(kThreads, 2, sample_forward, SampleParams) {
  Shared& s = *shared_memory<Shared>();
  const int r = int(blockIdx.x);
  Row row{p.logits + int64_t(r) * p.columns, p.columns, 0, p.temperature[r], p.scale};

  // The largest key, of equals the lowest column.
  uint64_t best = 0;
  row.each([&](float value, int c) {
    const uint64_t candidate = uint64_t(key_of(value)) << 32 | (0xffffffffu - uint32_t(c));
    if (candidate > best) best = candidate;
  });
  best = block_max(best, s.scratch);
  const uint32_t top = uint32_t(best >> 32);
  int token = int(0xffffffffu - uint32_t(best));
  if (top <= key_of(-kInfinity)) {
    token = 0;
  } else if (row.temperature > 0) {
    row.top = value_of(top);
    Cut cut{0, 0, uint64_t(p.columns)};
    const int k = p.top_k[r];
    if (k > 0 && k < p.columns) cut = find(row, uint64_t(k), s.scratch, [](float) { return uint64_t(1); });
    const uint64_t tie = row.weight(value_of(cut.key));
    uint64_t total = 0;
    row.each([&](float value, int) {
      if (key_of(value) > cut.key) total += row.weight(value);
    });
    total = block_sum(total, s.scratch) + cut.ties * tie;

    // Ties that topK left out are counted again here. They stand at its threshold, below which topP never goes.
    const float top_p = p.top_p[r];
    if (top_p < 1) {
      const uint64_t target = target_of(top_p, total);
      cut = find(row, target, s.scratch, [&](float value) { return row.weight(value); });
      const uint64_t each = row.weight(value_of(cut.key));
      cut.ties = (cut.ties + each - 1) / each;
      total = cut.above + cut.ties * each;
    }
    const uint64_t index = 2 * uint64_t(int64_t(p.counter[r]));
    const uint64_t random = uint64_t(hash32(p.seed[r], index)) << 32 | hash32(p.seed[r], index + 1);
    token = draw(row, cut, multiply_high(random, total), s);
  }
  if (threadIdx.x == 0) p.token[r] = token;
}
