// The part of cuBLASLt that Runtime imports, on the CPU, column-major:
//   D = alpha · scaleA · scaleB · op(A)·op(B) + beta · C (+ bias).
// Sums are fp32 in a fixed order per algorithm, the result is rounded once. What the library refuses is refused here
// with the same status: addresses and leading dimensions that an algorithm is not made for, FP8 in another layout than
// TN, mixed types. Heuristics answer with up to four algorithms, so that a search has something to choose from. One of
// them (in-place split-K) gives other bits on each call, as a reduction in order of arrival does: who wants determinism
// must mask it out.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "driver.h"
#include "memory.h"

namespace {

// values of cublasStatus_t
enum Status : int {
  kSuccess = 0,
  kNotInitialized = 1,
  kInvalidValue = 7,
  kExecutionFailed = 13,
  kNotSupported = 15,
};

// values of cudaDataType_t
enum DataType : int { kFloat = 0, kBFloat16 = 14, kE4M3 = 28, kE5M2 = 29 };

constexpr int kComputeFloat = 68;                             // CUBLAS_COMPUTE_32F
constexpr uint32_t kEpilogueDefault = 1, kEpilogueBias = 4;   // cublasLtEpilogue_t
constexpr uint32_t kReductionNone = 0, kReductionInPlace = 1, kReductionComputeType = 2;

// Every opaque object starts with its tag, so that a stale or foreign handle is refused instead of followed.
enum class Tag : uint64_t { kHandle = 0x7a314c7401, kMatmul, kLayout, kPreference };

template <Tag value>
struct Object {
  static constexpr Tag kTag = value;
  Tag tag = value;
};

struct Handle : Object<Tag::kHandle> {};

struct MatmulDesc : Object<Tag::kMatmul> {
  int compute = 0, scale = 0, trans_a = 0, trans_b = 0;
  uint32_t epilogue = kEpilogueDefault;
  const void* bias = nullptr;
  const float* scale_a = nullptr;
  const float* scale_b = nullptr;
  int bias_type = -1;
  int8_t fast_accum = 0;
};

struct Layout : Object<Tag::kLayout> {
  int type = 0;
  uint64_t rows = 0, cols = 0;
  int64_t ld = 0;
};

struct Preference : Object<Tag::kPreference> {
  uint64_t workspace = 0;
  uint32_t reductions = 7;                                    // all of them, as in the library
  uint32_t alignment[4] = {256, 256, 256, 256};               // A, B, C, D
};

// The 64 bytes that the library calls opaque.
struct Algorithm {
  uint64_t tag;
  int32_t id, splits;
  uint32_t reduction, alignment;
  uint64_t unused[5];
};
static_assert(sizeof(Algorithm) == 64);
constexpr uint64_t kAlgorithmTag = 0x7a31'616c'676f'0001;

struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(HeuristicResult) == 96);

template <typename T>
T* as(void* object) {
  if (!hostcuda::is_handle(object, hostcuda::Kind::kOther)) return nullptr;
  auto* typed = static_cast<T*>(object);
  return typed->tag == T::kTag ? typed : nullptr;
}

template <typename T>
int create(void** out, T* object) {
  if (out == nullptr) {
    delete object;
    return kInvalidValue;
  }
  hostcuda::add_handle(object, hostcuda::Kind::kOther);
  *out = object;
  return kSuccess;
}

template <typename T>
int destroy(void* object) {
  auto* typed = as<T>(object);
  if (typed == nullptr || !hostcuda::remove_handle(object, hostcuda::Kind::kOther)) return kInvalidValue;
  delete typed;
  return kSuccess;
}

// What a call says before it does anything: an injected cublasStatus_t as it is; the device's sticky error as a failed
// execution.
int enter(const char* function) {
  const int error = hostcuda::enter(function);
  return error >= hostcuda::kNoDevice ? kExecutionFailed : error;
}

template <typename T>
int assign(T* to, const void* from, size_t bytes) {
  if (from == nullptr || bytes != sizeof(T)) return kInvalidValue;
  std::memcpy(to, from, sizeof(T));
  return kSuccess;
}

int64_t size_of(int type) { return type == kFloat ? 4 : type == kBFloat16 ? 2 : 1; }

bool is_fp8(int type) { return type == kE4M3 || type == kE5M2; }

float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

float from_bf16(uint16_t bits) { return from_bits(uint32_t(bits) << 16); }

uint16_t to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t(bits >> 16 | 0x40);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// OCP 8-bit floats: E4M3 has no infinity and one NaN per sign; E5M2 is the upper byte of an IEEE half.
float from_fp8(uint8_t bits, int type) {
  const int mantissa_bits = type == kE4M3 ? 3 : 2, bias = type == kE4M3 ? 7 : 15;
  const int exponent = (bits & 0x7f) >> mantissa_bits, mantissa = bits & ((1 << mantissa_bits) - 1);
  float magnitude;
  if (type == kE4M3 && (bits & 0x7f) == 0x7f) magnitude = NAN;
  else if (type == kE5M2 && exponent == 31) magnitude = mantissa == 0 ? INFINITY : NAN;
  else if (exponent == 0) magnitude = std::ldexp(float(mantissa), 1 - bias - mantissa_bits);
  else magnitude = std::ldexp(float((1 << mantissa_bits) + mantissa), exponent - bias - mantissa_bits);
  return bits & 0x80 ? -magnitude : magnitude;
}

float load(const void* base, int64_t index, int type) {
  switch (type) {
    case kFloat: return static_cast<const float*>(base)[index];
    case kBFloat16: return from_bf16(static_cast<const uint16_t*>(base)[index]);
    default: return from_fp8(static_cast<const uint8_t*>(base)[index], type);
  }
}

void store(void* base, int64_t index, int type, float value) {
  if (type == kFloat) static_cast<float*>(base)[index] = value;
  else static_cast<uint16_t*>(base)[index] = to_bf16(value);
}

// One call, checked and copied out of the descriptors: what a stream runs, now or when a captured graph is launched.
struct Problem {
  int64_t m, n, k;
  MatmulDesc desc;
  Layout a_layout, b_layout, c_layout, d_layout;
  const void *a, *b, *c;
  void* d;
  float alpha, beta;
  Algorithm algorithm;
  void* workspace;
};

std::string check_range(const char* operand, const void* address, int64_t bytes, bool writes) {
  if (bytes == 0) return "";
  hostcuda::Allocation allocation;
  const auto begin = reinterpret_cast<uintptr_t>(address);
  const std::string what = std::string("cublasLtMatmul: ") + (writes ? "write to " : "read of ") + operand;
  if (!hostcuda::find_allocation(begin, &allocation))
    return what + " of " + std::to_string(bytes) + " bytes starts outside every allocation";
  if (!allocation.live) return what + " lies in memory that was freed";
  if (begin < allocation.begin) return what + " starts before its allocation";
  const auto past = int64_t(begin + uint64_t(bytes)) - int64_t(allocation.begin + allocation.bytes);
  return past <= 0 ? ""
                   : what + " ends " + std::to_string(past) + " bytes past the end of a " +
                         std::to_string(allocation.bytes) + "-byte allocation";
}

int64_t extent(const Layout& layout) {
  return layout.rows == 0 || layout.cols == 0
             ? 0
             : (int64_t(layout.cols - 1) * layout.ld + int64_t(layout.rows)) * size_of(layout.type);
}

// Rows of k contiguous floats each: op(A) by rows, op(B) by columns.
std::vector<float> pack(const void* base, const Layout& layout, bool contiguous_k, int64_t count, int64_t k) {
  std::vector<float> packed(static_cast<size_t>(count * k));
  for (int64_t i = 0; i < count; i++)
    for (int64_t p = 0; p < k; p++)
      packed[size_t(i * k + p)] = load(base, contiguous_k ? p + i * layout.ld : i + p * layout.ld, layout.type);
  return packed;
}

// Sixteen chains, folded in order: the compiler keeps them in vector registers.
float dot(const float* x, const float* y, int64_t k) {
  constexpr int kChains = 16;
  float sums[kChains] = {};
  int64_t p = 0;
  for (; p + kChains <= k; p += kChains)
    for (int lane = 0; lane < kChains; lane++) sums[lane] += x[p + lane] * y[p + lane];
  float sum = 0;
  for (; p < k; p++) sum += x[p] * y[p];
  for (const float chain : sums) sum += chain;
  return sum;
}

size_t workspace_bytes(const Algorithm& algorithm, int64_t m, int64_t n) {
  return algorithm.reduction == kReductionComputeType ? size_t(algorithm.splits) * size_t(m * n) * sizeof(float) : 0;
}

std::string run(const Problem& q) {
  std::string fault = check_range("A", q.a, extent(q.a_layout), false);
  if (fault.empty()) fault = check_range("B", q.b, extent(q.b_layout), false);
  if (fault.empty() && q.beta != 0) fault = check_range("C", q.c, extent(q.c_layout), false);
  if (fault.empty()) fault = check_range("D", q.d, extent(q.d_layout), true);
  const int bias_type = q.desc.bias_type >= 0 ? q.desc.bias_type : q.d_layout.type;
  if (fault.empty() && q.desc.epilogue == kEpilogueBias)
    fault = check_range("bias", q.desc.bias, q.m * size_of(bias_type), false);
  if (fault.empty() && q.desc.scale_a) fault = check_range("the scale of A", q.desc.scale_a, sizeof(float), false);
  if (fault.empty() && q.desc.scale_b) fault = check_range("the scale of B", q.desc.scale_b, sizeof(float), false);
  const auto scratch = workspace_bytes(q.algorithm, q.m, q.n);
  if (fault.empty()) fault = check_range("the workspace", q.workspace, int64_t(scratch), true);
  if (!fault.empty()) return fault;

  const auto a = pack(q.a, q.a_layout, q.desc.trans_a != 0, q.m, q.k);
  const auto b = pack(q.b, q.b_layout, q.desc.trans_b == 0, q.n, q.k);
  const float scale = q.alpha * (q.desc.scale_a ? *q.desc.scale_a : 1.f) * (q.desc.scale_b ? *q.desc.scale_b : 1.f);
  auto* partial = scratch > 0 ? static_cast<float*>(q.workspace) : nullptr;

  // In-place split-K adds its parts in order of arrival; here half of the calls add them the other way round, without a
  // period that a caller could be in step with (Thue-Morse).
  static std::atomic<unsigned> arrivals{0};
  const bool reversed = q.algorithm.reduction == kReductionInPlace && std::popcount(arrivals++) % 2 == 1;
  const int64_t splits = std::max(1, q.algorithm.splits), step = (q.k + splits - 1) / splits;
  constexpr int64_t kTile = 32;                               // columns of D whose packed rows of B stay in cache
  for (int64_t j0 = 0; j0 < q.n; j0 += kTile) {
    for (int64_t i = 0; i < q.m; i++) {
      for (int64_t j = j0; j < std::min(q.n, j0 + kTile); j++) {
        float sum = 0;
        for (int64_t s = 0; s < splits; s++) {
          const int64_t first = (reversed ? splits - 1 - s : s) * step, count = std::min(step, q.k - first);
          const float part = count > 0 ? dot(&a[size_t(i * q.k + first)], &b[size_t(j * q.k + first)], count) : 0;
          if (partial) partial[s * q.m * q.n + j * q.m + i] = part;
          sum += part;
        }
        float value = scale * sum;
        if (q.beta != 0) value += q.beta * load(q.c, i + j * q.c_layout.ld, q.c_layout.type);
        if (q.desc.epilogue == kEpilogueBias) value += load(q.desc.bias, i, bias_type);
        store(q.d, i + j * q.d_layout.ld, q.d_layout.type, value);
      }
    }
  }
  return "";
}

// kSuccess when the descriptors fit each other and the library has code for them.
int check_problem(const MatmulDesc& desc, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  const bool ta = desc.trans_a != 0, tb = desc.trans_b != 0;
  const auto m = ta ? a.cols : a.rows, k = ta ? a.rows : a.cols, n = tb ? b.rows : b.cols;
  if ((tb ? b.cols : b.rows) != k || d.rows != m || d.cols != n || c.rows != m || c.cols != n) return kInvalidValue;
  for (const auto* layout : {&a, &b, &c, &d})
    if (layout->ld < int64_t(layout->rows)) return kInvalidValue;
  if (m == 0 || n == 0 || k == 0) return kInvalidValue;
  if (desc.compute != kComputeFloat || desc.scale != kFloat || c.type != d.type) return kNotSupported;
  if (desc.epilogue != kEpilogueDefault && desc.epilogue != kEpilogueBias) return kNotSupported;
  if (d.type != kFloat && d.type != kBFloat16) return kNotSupported;
  if (is_fp8(a.type) || is_fp8(b.type)) {
    // Hopper: TN only, both operands FP8, not both E5M2, every extent and leading dimension a multiple of 16 bytes.
    const bool types = is_fp8(a.type) && is_fp8(b.type) && !(a.type == kE5M2 && b.type == kE5M2);
    const bool extents = m % 16 == 0 && k % 16 == 0 && a.ld % 16 == 0 && b.ld % 16 == 0;
    return types && extents && ta && !tb && d.ld * size_of(d.type) % 16 == 0 ? kSuccess : kNotSupported;
  }
  if (desc.scale_a || desc.scale_b) return kNotSupported;
  if (a.type == kFloat && b.type == kFloat) return d.type == kFloat ? kSuccess : kNotSupported;
  return a.type == kBFloat16 && b.type == kBFloat16 ? kSuccess : kNotSupported;
}

bool rows_aligned(const Layout& layout, uint32_t bytes) { return layout.ld * size_of(layout.type) % bytes == 0; }

bool addresses_aligned(const Problem& q) {
  for (const void* address : {q.a, q.b, q.c, static_cast<const void*>(q.d)})
    if (reinterpret_cast<uintptr_t>(address) % q.algorithm.alignment != 0) return false;
  return true;
}

Algorithm algorithm(int id, int splits, uint32_t reduction, uint32_t alignment) {
  return {kAlgorithmTag, id, splits, reduction, alignment, {}};
}

bool suits(const Algorithm& algorithm, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  for (const auto* layout : {&a, &b, &c, &d})
    if (!rows_aligned(*layout, std::min(algorithm.alignment, 16u))) return false;
  return true;
}

}  // namespace

HOSTCUDA_EXPORT size_t cublasLtGetVersion() { return 120000; }

HOSTCUDA_EXPORT int cublasLtCreate(void** handle) {
  if (const int error = enter(__func__)) return error;
  if (!hostcuda::context_is_current()) return kNotInitialized;
  return create(handle, new Handle);
}

HOSTCUDA_EXPORT int cublasLtDestroy(void* handle) { return destroy<Handle>(handle); }

HOSTCUDA_EXPORT int cublasLtMatmulDescCreate(void** desc, int compute_type, int scale_type) {
  if (const int error = enter(__func__)) return error;
  auto* made = new MatmulDesc;
  made->compute = compute_type;
  made->scale = scale_type;
  return create(desc, made);
}

HOSTCUDA_EXPORT int cublasLtMatmulDescDestroy(void* desc) { return destroy<MatmulDesc>(desc); }

HOSTCUDA_EXPORT int cublasLtMatmulDescSetAttribute(void* desc, int attribute, const void* value, size_t bytes) {
  if (const int error = enter(__func__)) return error;
  auto* d = as<MatmulDesc>(desc);
  if (d == nullptr) return kInvalidValue;
  switch (attribute) {
    case 3: return assign(&d->trans_a, value, bytes);         // CUBLASLT_MATMUL_DESC_TRANSA
    case 4: return assign(&d->trans_b, value, bytes);         // CUBLASLT_MATMUL_DESC_TRANSB
    case 7: return assign(&d->epilogue, value, bytes);        // CUBLASLT_MATMUL_DESC_EPILOGUE
    case 8: return assign(&d->bias, value, bytes);            // CUBLASLT_MATMUL_DESC_BIAS_POINTER
    case 17: return assign(&d->scale_a, value, bytes);        // CUBLASLT_MATMUL_DESC_A_SCALE_POINTER
    case 18: return assign(&d->scale_b, value, bytes);        // CUBLASLT_MATMUL_DESC_B_SCALE_POINTER
    case 25: return assign(&d->fast_accum, value, bytes);     // CUBLASLT_MATMUL_DESC_FAST_ACCUM
    case 26: return assign(&d->bias_type, value, bytes);      // CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE
    default: return kNotSupported;
  }
}

HOSTCUDA_EXPORT int cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  if (const int error = enter(__func__)) return error;
  if (type != kFloat && type != kBFloat16 && !is_fp8(type)) return kNotSupported;
  auto* made = new Layout;
  made->type = type;
  made->rows = rows;
  made->cols = cols;
  made->ld = ld;
  return create(layout, made);
}

HOSTCUDA_EXPORT int cublasLtMatrixLayoutDestroy(void* layout) { return destroy<Layout>(layout); }

HOSTCUDA_EXPORT int cublasLtMatmulPreferenceCreate(void** preference) {
  if (const int error = enter(__func__)) return error;
  return create(preference, new Preference);
}

HOSTCUDA_EXPORT int cublasLtMatmulPreferenceDestroy(void* preference) { return destroy<Preference>(preference); }

HOSTCUDA_EXPORT int cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute, const void* value,
                                                         size_t bytes) {
  if (const int error = enter(__func__)) return error;
  auto* p = as<Preference>(preference);
  if (p == nullptr) return kInvalidValue;
  switch (attribute) {
    case 1: return assign(&p->workspace, value, bytes);       // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES
    case 3: return assign(&p->reductions, value, bytes);      // CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK
    case 5:                                                   // CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES … D_BYTES
    case 6:
    case 7:
    case 8: return assign(&p->alignment[attribute - 5], value, bytes);
    default: return kNotSupported;
  }
}

HOSTCUDA_EXPORT int cublasLtMatmulAlgoGetHeuristic(void* handle, void* desc, void* a, void* b, void* c, void* d,
                                                   void* preference, int requested, HeuristicResult* results,
                                                   int* returned) {
  if (const int error = enter(__func__)) return error;
  const auto* operation = as<MatmulDesc>(desc);
  const auto *la = as<Layout>(a), *lb = as<Layout>(b), *lc = as<Layout>(c), *ld = as<Layout>(d);
  const auto* p = as<Preference>(preference);
  if (!as<Handle>(handle) || !operation || !la || !lb || !lc || !ld || !p) return kInvalidValue;
  if (!results || !returned || requested < 1) return kInvalidValue;
  *returned = 0;
  const int status = check_problem(*operation, *la, *lb, *lc, *ld);
  if (status != kSuccess) return status;

  const Algorithm known[] = {
      algorithm(66, 3, kReductionInPlace, 16),
      algorithm(66, 1, kReductionNone, 16),
      algorithm(67, 2, kReductionComputeType, 16),
      algorithm(6, 1, kReductionNone, 1),
  };
  const auto alignment = *std::min_element(std::begin(p->alignment), std::end(p->alignment));
  for (const auto& candidate : known) {
    const auto need = workspace_bytes(candidate, int64_t(ld->rows), int64_t(ld->cols));
    if (*returned == requested || alignment < candidate.alignment || !suits(candidate, *la, *lb, *lc, *ld)) continue;
    if ((candidate.reduction & ~p->reductions) != 0 || need > p->workspace) continue;
    results[(*returned)++] = {candidate, need, kSuccess, 1.f, {}};
  }
  return *returned > 0 ? kSuccess : kNotSupported;
}

HOSTCUDA_EXPORT int cublasLtMatmulAlgoCheck(void* handle, void* desc, void* a, void* b, void* c, void* d,
                                            const Algorithm* candidate, HeuristicResult* result) {
  if (const int error = enter(__func__)) return error;
  const auto* operation = as<MatmulDesc>(desc);
  const auto *la = as<Layout>(a), *lb = as<Layout>(b), *lc = as<Layout>(c), *ld = as<Layout>(d);
  if (!as<Handle>(handle) || !operation || !la || !lb || !lc || !ld || !candidate || !result) return kInvalidValue;
  if (candidate->tag != kAlgorithmTag) return kInvalidValue;
  const int status = check_problem(*operation, *la, *lb, *lc, *ld);
  if (status != kSuccess) return status;
  if (!suits(*candidate, *la, *lb, *lc, *ld)) return kNotSupported;
  result->workspace_bytes = workspace_bytes(*candidate, int64_t(ld->rows), int64_t(ld->cols));
  result->state = kSuccess;
  result->waves = 1.f;
  return kSuccess;                                            // result->algorithm is never updated (cublasLt.h)
}

HOSTCUDA_EXPORT int cublasLtMatmulAlgoConfigGetAttribute(const Algorithm* algorithm, int attribute, void* value,
                                                         size_t bytes, size_t* written) {
  if (algorithm == nullptr || algorithm->tag != kAlgorithmTag || bytes < 4) return kInvalidValue;
  uint32_t result;
  switch (attribute) {
    case 0: result = uint32_t(algorithm->id); break;          // CUBLASLT_ALGO_CONFIG_ID
    case 1: result = 0; break;                                // CUBLASLT_ALGO_CONFIG_TILE_ID
    case 2: result = uint32_t(algorithm->splits); break;      // CUBLASLT_ALGO_CONFIG_SPLITK_NUM
    case 3: result = algorithm->reduction; break;             // CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME
    case 6: result = 0; break;                                // CUBLASLT_ALGO_CONFIG_STAGES_ID
    default: return kNotSupported;
  }
  std::memcpy(value, &result, 4);
  if (written) *written = 4;
  return kSuccess;
}

HOSTCUDA_EXPORT int cublasLtMatmul(void* handle, void* desc, const void* alpha, const void* a, void* a_layout,
                                   const void* b, void* b_layout, const void* beta, const void* c, void* c_layout,
                                   void* d, void* d_layout, const Algorithm* chosen, void* workspace,
                                   size_t workspace_size, void* stream) {
  if (const int error = enter(__func__)) return error;
  if (!as<Handle>(handle)) return kNotInitialized;
  const auto* operation = as<MatmulDesc>(desc);
  const auto *la = as<Layout>(a_layout), *lb = as<Layout>(b_layout);
  const auto *lc = as<Layout>(c_layout), *ld = as<Layout>(d_layout);
  if (!operation || !la || !lb || !lc || !ld || !alpha || !beta || !a || !b || !c || !d) return kInvalidValue;
  const int status = check_problem(*operation, *la, *lb, *lc, *ld);
  if (status != kSuccess) return status;
  if (operation->epilogue == kEpilogueBias && operation->bias == nullptr) return kInvalidValue;

  Problem q{};
  q.m = int64_t(ld->rows);
  q.n = int64_t(ld->cols);
  q.k = int64_t(operation->trans_a ? la->rows : la->cols);
  q.desc = *operation;
  q.a_layout = *la;
  q.b_layout = *lb;
  q.c_layout = *lc;
  q.d_layout = *ld;
  q.a = a;
  q.b = b;
  q.c = c;
  q.d = d;
  q.alpha = *static_cast<const float*>(alpha);
  q.beta = *static_cast<const float*>(beta);
  q.algorithm = chosen ? *chosen : algorithm(6, 1, kReductionNone, 1);
  q.workspace = workspace;
  if (q.algorithm.tag != kAlgorithmTag) return kInvalidValue;
  if (!suits(q.algorithm, *la, *lb, *lc, *ld) || !addresses_aligned(q)) return kNotSupported;
  if (workspace_bytes(q.algorithm, q.m, q.n) > workspace_size) return kInvalidValue;
  if (reinterpret_cast<uintptr_t>(workspace) % 16 != 0) return kInvalidValue;
  const auto submitted = hostcuda::submit(stream, [q]() -> hostcuda::Result {
    hostcuda::count_launch();
    const auto fault = run(q);
    if (!fault.empty()) hostcuda::set_fault(hostcuda::kIllegalAddress, fault);
    return hostcuda::kSuccess;                                // a fault shows from the next call on, as on a device
  });
  return submitted == hostcuda::kSuccess ? kSuccess : kExecutionFailed;
}
