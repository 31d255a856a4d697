// fp32 to bf16, rounded to nearest even or stochastically (up with a probability equal to the part cut off, by 16 bits
// of cut16(key, element), elements counted from first_element); bf16 to fp32, exact; bf16 or fp32 added to fp32.
// Parallel: a thread takes eight elements; the last count % 8 go one to a thread. Floor: bytes, 6 per element; 10 to add bf16, 12 to add fp32.
#include "z1.cuh"

constexpr int kThreads = 256;

struct CastParams {
  float* wide;
  bf16* narrow;
  const float* added;
  int64_t count;
  int64_t first_element;
  uint64_t key;
  int stochastic;
};
static_assert(sizeof(CastParams) == 56, "Cast.Params in Cast.Cuda.cs");

Z1_KERNEL(kThreads, 4, cast_round, CastParams) {
  const int64_t thread = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t vectors = p.count / 8;
  if (thread < vectors) {
    Vec8 y;
    for (int part = 0; part < 2; ++part) {
      const int64_t at = 8 * thread + 4 * part;
      const Vec4 x = Vec4::load_nc(p.wide + at);
      for (int i = 0; i < 4; ++i) y[4 * part + i] = round_bf16(x[i], p.stochastic != 0, p.key, p.first_element + at + i);
    }
    y.store(p.narrow + 8 * thread);
  } else if (thread - vectors < p.count % 8) {
    const int64_t at = 8 * vectors + (thread - vectors);
    p.narrow[at] = to_bf16(round_bf16(p.wide[at], p.stochastic != 0, p.key, p.first_element + at));
  }
}

Z1_KERNEL(kThreads, 4, cast_widen, CastParams) {
  const int64_t thread = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t vectors = p.count / 8;
  if (thread < vectors) {
    const Vec8 x = Vec8::load_nc(p.narrow + 8 * thread);
    Vec4{{x[0], x[1], x[2], x[3]}}.store(p.wide + 8 * thread);
    Vec4{{x[4], x[5], x[6], x[7]}}.store(p.wide + 8 * thread + 4);
  } else if (thread - vectors < p.count % 8) {
    const int64_t at = 8 * vectors + (thread - vectors);
    p.wide[at] = to_float(p.narrow[at]);
  }
}

Z1_KERNEL(kThreads, 4, cast_add, CastParams) {
  const int64_t thread = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t vectors = p.count / 8;
  if (thread < vectors) {
    const Vec8 x = Vec8::load_nc(p.narrow + 8 * thread);
    for (int part = 0; part < 2; ++part) {
      float* at = p.wide + 8 * thread + 4 * part;
      Vec4 y = Vec4::load(at);
      for (int i = 0; i < 4; ++i) y[i] += x[4 * part + i];
      y.store(at);
    }
  } else if (thread - vectors < p.count % 8) {
    const int64_t at = 8 * vectors + (thread - vectors);
    p.wide[at] += to_float(p.narrow[at]);
  }
}

Z1_KERNEL(kThreads, 4, cast_add_wide, CastParams) {
  const int64_t thread = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t vectors = p.count / 8;
  if (thread < vectors) {
    for (int part = 0; part < 2; ++part) {
      const int64_t at = 8 * thread + 4 * part;
      const Vec4 x = Vec4::load_nc(p.added + at);
      Vec4 y = Vec4::load(p.wide + at);
      for (int i = 0; i < 4; ++i) y[i] += x[i];
      y.store(p.wide + at);
    }
  } else if (thread - vectors < p.count % 8) {
    const int64_t at = 8 * vectors + (thread - vectors);
    p.wide[at] += p.added[at];
  }
}
