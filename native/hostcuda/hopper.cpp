// The twins of hopper.cuh: mbarriers, tensor copies and wgmma, as the PTX ISA describes them, and
// cuTensorMapEncodeTiled.
//
// An asynchronous instruction takes effect as late as the kernel allows, so that a missing wait shows:
//   - a tensor copy is checked where it is issued (bounds, races, whether a pending wgmma still reads the destination);
//     from then on its bytes are in flight, and they arrive when a thread waits for the mbarrier;
//   - a wgmma reads shared memory and its A registers, and changes its accumulators, when wgmma.wait_group covers it.
// Two rules are stricter than the ISA: registers of A must still hold at the wait what they held at the issue (the ISA
// forbids to change them, here it is checked), and the first wgmma after a wait needs a wgmma.fence, whether registers
// changed or not. Global memory that the copy engine reads is checked for bounds, not for races: a box may run into
// rows that other blocks write and whose values its reader drops.
#include <cstring>
#include <map>
#include <string>

#include "device.h"
#include "driver.h"
#include "memory.h"
#include "shadow.h"
#include "tensormap.h"

namespace hostcuda {
namespace {

constexpr int kWarpgroupWarps = 4, kRows = 16, kDepth = 16, kMaxColumns = 256;
constexpr size_t kRowBytes = 128, kAtomRows = 8, kAtomBytes = kAtomRows * kRowBytes;

struct Load {
  TensorMap map;
  int at[3];
  size_t to;
};

struct Mbarrier {
  uint32_t arrivals = 0, missing = 0, phase = 0;
  int64_t bytes = 0;
  Clock open, done;
  std::vector<Load> loads;
};

// One wgmma as one thread issued it.
struct Multiply {
  float* d;
  const uint32_t* a;  // null: in shared memory
  uint32_t a_issued[4];
  uint64_t a_descriptor, b_descriptor;
  int columns;
  bool accumulate, transpose_b;
  uintptr_t site;
};

// Equal for all threads of a warpgroup.
uint64_t signature(const Multiply& op) {
  const int shape = op.columns * 8 + op.accumulate * 4 + op.transpose_b * 2 + (op.a != nullptr);
  return (op.b_descriptor * 31 + op.a_descriptor) * 31 + uint64_t(shape);
}

struct ThreadState {
  std::vector<Multiply> issued;     // oldest first
  std::vector<size_t> groups;       // committed, oldest first
  size_t open = 0;                  // the newest ones, not committed
  size_t executed = 0;
  bool fenced = false;
};

struct BlockState {
  std::map<size_t, Mbarrier> barriers;  // by offset in shared memory
  ThreadState threads[kMaxThreads];
  std::vector<uint64_t> history[kMaxWarps / kWarpgroupWarps];  // what each warpgroup multiplied
};

BlockState& state() { return block_storage<BlockState>(); }
uintptr_t caller(void* address) { return reinterpret_cast<uintptr_t>(address); }
#define SITE caller(__builtin_return_address(0))

size_t swizzle(size_t offset) { return offset ^ ((offset >> 7 & 7) << 4); }
float widen(uint16_t bits) { return __builtin_bit_cast(float, uint32_t{bits} << 16); }

// A descriptor, decoded.
struct Matrix {
  size_t start, leading, stride;
};

Matrix decode(uint64_t descriptor, uintptr_t site) {
  if (descriptor >> 62 != 1) fail("multiplies by a descriptor whose swizzle mode is not 128 bytes", site);
  if ((descriptor >> 49 & 7) != 0) fail("multiplies by a descriptor with a base offset", site);
  return {(descriptor & 0x3FFF) << 4, (descriptor >> 16 & 0x3FFF) << 4, (descriptor >> 32 & 0x3FFF) << 4};
}

// Where the 16-byte chunk that begins at element (outer, inner) lies; inner counts along the 64 elements of a swizzled
// row.
size_t k_major(const Matrix& m, int row, int k) {
  return m.start + row / kAtomRows * m.stride + row % kAtomRows * kRowBytes + size_t(k) * 2;
}
size_t mn_major(const Matrix& m, int k, int n) {
  return m.start + n / 64 * m.leading + k / kAtomRows * m.stride + k % kAtomRows * kRowBytes + size_t(n % 64) * 2;
}

void read_chunk(size_t linear, float* to, size_t stride, uintptr_t site) {
  const uintptr_t address = g_engine.shared + swizzle(linear);
  check_read<16>(reinterpret_cast<const void*>(address), site);
  uint16_t bits[8];
  memcpy(bits, reinterpret_cast<const void*>(address), sizeof bits);
  for (int i = 0; i < 8; i++) to[i * stride] = widen(bits[i]);
}

// The 8-row atoms that an operand touches: first byte of each.
template <class F> void for_atoms(const Matrix& m, bool transposed, int outer, F f) {
  const size_t start = m.start / kAtomBytes * kAtomBytes;
  if (transposed) {
    for (int n = 0; n < outer; n += 64)
      for (int k = 0; k < kDepth; k += int(kAtomRows)) f(start + n / 64 * m.leading + k / kAtomRows * m.stride);
  } else {
    for (int row = 0; row < outer; row += int(kAtomRows)) f(start + row / kAtomRows * m.stride);
  }
}

// Rows 16 w .. 16 w + 15 of the product, w the warp's place in its warpgroup.
void multiply(const Multiply* const* lanes, int warp, uintptr_t site) {
  const Multiply& op = *lanes[0];
  const int n = op.columns;
  static float a[kRows][kDepth], b[kDepth][kMaxColumns], d[kRows][kMaxColumns];
  if (op.a == nullptr) {
    const Matrix m = decode(op.a_descriptor, site);
    for (int r = 0; r < kRows; r++)
      for (int k = 0; k < kDepth; k += 8) read_chunk(k_major(m, warp * kRows + r, k), &a[r][k], 1, site);
  } else {
    for (int lane = 0; lane < kWarpLanes; lane++)
      for (int i = 0; i < 4; i++)
        for (int c = 0; c < 2; c++)
          a[lane / 4 + 8 * (i % 2)][2 * (lane % 4) + 8 * (i / 2) + c] = widen(uint16_t(lanes[lane]->a[i] >> 16 * c));
  }
  const Matrix m = decode(op.b_descriptor, site);
  if (op.transpose_b) {
    for (int k = 0; k < kDepth; k++)
      for (int j = 0; j < n; j += 8) read_chunk(mn_major(m, k, j), &b[k][j], 1, site);
  } else {
    for (int j = 0; j < n; j++)
      for (int k = 0; k < kDepth; k += 8) read_chunk(k_major(m, j, k), &b[k][j], kMaxColumns, site);
  }
  const auto accumulators = [&](auto f) {
    for (int lane = 0; lane < kWarpLanes; lane++)
      for (int i = 0; i < n / 2; i++)
        f(lanes[lane]->d[i], d[lane / 4 + 8 * (i / 2 % 2)][8 * (i / 4) + 2 * (lane % 4) + i % 2]);
  };
  accumulators([&](float& held, float& element) { element = op.accumulate ? held : 0.f; });
  for (int r = 0; r < kRows; r++) {
    for (int k = 0; k < kDepth; k++) {
      const float x = a[r][k];
      for (int j = 0; j < n; j++) d[r][j] += x * b[k][j];
    }
  }
  accumulators([](float& held, float& element) { held = element; });
}

// The oldest operation of every lane of the running warp.
void execute_oldest(uintptr_t site) {
  Warp& warp = *self().warp;
  BlockState& block = state();
  if (warp.lanes != ~0u) fail("multiplies in a warp that has fewer than 32 lanes", site);
  const int first = warp.index * kWarpLanes;
  const Multiply* lanes[kWarpLanes];
  for (int lane = 0; lane < kWarpLanes; lane++) {
    const ThreadState& t = block.threads[first + lane];
    if (t.issued.empty()) fail("waits for a wgmma that other lanes of its warp did not issue", site);
    lanes[lane] = &t.issued.front();
    const Multiply &op = *lanes[lane], &other = *lanes[0];
    if (signature(op) != signature(other))
      fail("issued a wgmma whose shape or descriptors differ between the lanes of its warp", op.site);
    if (op.a != nullptr && memcmp(op.a, op.a_issued, sizeof op.a_issued) != 0)
      fail("changed the A registers of a wgmma that was under way", op.site);
  }
  const Multiply& op = *lanes[0];
  auto& history = block.history[warp.index / kWarpgroupWarps];
  const size_t number = block.threads[first].executed;
  if (number == history.size()) history.push_back(signature(op));
  if (history[number] != signature(op)) fail("issued a wgmma that differs between the warps of its warpgroup", op.site);
  // The reads count as the first lane's: the clock of the lane that happens to come last may be one that another lane has
  // already published by an arrival before this wait.
  Fiber* const last = g_engine.self;
  g_engine.self = &g_engine.fibers[first];
  multiply(lanes, warp.index % kWarpgroupWarps, op.site);
  g_engine.self = last;
  for (int lane = 0; lane < kWarpLanes; lane++) {
    ThreadState& t = block.threads[first + lane];
    t.issued.erase(t.issued.begin());
    t.executed++;
  }
}

Mbarrier& find_barrier(void* barrier, uintptr_t site) {
  const size_t offset = shared_offset(barrier, 8, "an mbarrier", site);
  if (offset % 8 != 0) fail("uses an mbarrier at an address that is not a multiple of 8", site);
  auto& all = state().barriers;
  const auto found = all.find(offset);
  if (found == all.end()) fail("uses an mbarrier that nobody has initialised", site);
  return found->second;
}

void finish_phase(Mbarrier& b) {
  if (b.missing != 0 || b.bytes != 0) return;
  b.phase++;
  b.missing = b.arrivals;
  b.done = b.open;
}

size_t box_bytes(const TensorMap& map) {
  size_t bytes = map.element_bytes;
  for (int i = 0; i < map.rank; i++) bytes *= map.box[i];
  return bytes;
}

// f(offset in shared memory before swizzling, address of the row in global memory or 0, bytes of it that exist).
template <class F> void for_rows(const Load& load, F f) {
  const TensorMap& map = load.map;
  const size_t row_bytes = size_t{map.box[0]} * map.element_bytes;
  for (uint32_t z = 0; z < map.box[2]; z++) {
    for (uint32_t y = 0; y < map.box[1]; y++) {
      const int64_t at_y = int64_t{load.at[1]} + y, at_z = int64_t{load.at[2]} + z;
      const bool exists = at_y >= 0 && at_y < map.sizes[1] && at_z >= 0 && at_z < map.sizes[2];
      const size_t x = size_t(load.at[0]);
      const size_t columns = x >= map.sizes[0] ? 0 : std::min<size_t>(map.box[0], map.sizes[0] - x);
      const uint64_t from = map.address + x * map.element_bytes + uint64_t(at_y) * map.strides[0] +
                            uint64_t(at_z) * map.strides[1];
      const bool any = exists && columns != 0;
      f(load.to + (size_t{z} * map.box[1] + y) * row_bytes, any ? from : 0, any ? columns * map.element_bytes : 0);
    }
  }
}

void land_loads(Mbarrier& b) {
  for (const Load& load : b.loads) {
    const size_t row_bytes = size_t{load.map.box[0]} * load.map.element_bytes;
    for_rows(load, [&](size_t offset, uint64_t from, size_t bytes) {
      char row[kRowBytes] = {};
      memcpy(row, reinterpret_cast<const void*>(from), bytes);
      for (size_t i = 0; i < row_bytes; i += 16)
        memcpy(reinterpret_cast<char*>(g_engine.shared) + swizzle(offset + i), row + i, 16);
    });
    const size_t bytes = box_bytes(load.map);
    memset(g_shadow.shared_state + load.to, kInitialised, bytes);
    b.bytes -= int64_t(bytes);
  }
  b.loads.clear();
  finish_phase(b);
}

void check_pending_readers(size_t to, size_t bytes, uintptr_t site) {
  BlockState& block = state();
  for (int t = 0; t < g_engine.threads; t += kWarpLanes) {
    for (const Multiply& op : block.threads[t].issued) {
      const auto check = [&](size_t atom) {
        if (atom < to + bytes && to < atom + kAtomBytes)
          fail("starts a tensor copy into shared memory that a wgmma of thread " + std::to_string(t) +
               " may still read", site);
      };
      if (op.a == nullptr) for_atoms(decode(op.a_descriptor, op.site), false, 64, check);
      for_atoms(decode(op.b_descriptor, op.site), op.transpose_b, op.columns, check);
    }
  }
}

}  // namespace

HOSTCUDA_TWIN uint32_t hostcuda_hopper_shared_address(const void* shared) noexcept {
  const uintptr_t address = reinterpret_cast<uintptr_t>(shared);
  if (address - g_engine.shared >= g_engine.shared_bytes)
    fail("takes the shared address of something outside shared memory", SITE);
  return uint32_t(address - g_engine.shared);
}

HOSTCUDA_TWIN void hostcuda_hopper_wgmma(float* d, int n, const uint32_t* a, uint64_t a_descriptor,
                                         uint64_t b_descriptor, int accumulate, int transpose_b) noexcept {
  ThreadState& t = state().threads[self().index];
  if (n % 8 != 0 || n < 8 || n > kMaxColumns) fail("multiplies by a matrix of " + std::to_string(n) + " columns", SITE);
  if (!t.fenced) fail("issues a wgmma without a wgmma.fence since its last wait", SITE);
  Multiply op{d, a, {}, a_descriptor, b_descriptor, n, accumulate != 0, transpose_b != 0, SITE};
  if (a != nullptr) memcpy(op.a_issued, a, sizeof op.a_issued);
  t.issued.push_back(op);
  t.open++;
}

HOSTCUDA_TWIN void hostcuda_hopper_wgmma_fence() noexcept { state().threads[self().index].fenced = true; }

HOSTCUDA_TWIN void hostcuda_hopper_wgmma_commit() noexcept {
  ThreadState& t = state().threads[self().index];
  t.groups.push_back(t.open);
  t.open = 0;
}

HOSTCUDA_TWIN void hostcuda_hopper_wgmma_wait(int pending) noexcept {
  const uintptr_t site = SITE;
  ThreadState* threads = state().threads;
  rendezvous("wgmma.wait_group", pending, false, site, [](WarpSlot&) {},
             [&](WarpSlot*, uint32_t) {
               const int first = self().warp->index * kWarpLanes;
               for (int lane = 1; lane < kWarpLanes; lane++)
                 if (threads[first + lane].groups != threads[first].groups)
                   fail("waits for wgmma groups that differ between the lanes of its warp", site);
               while (threads[first].groups.size() > size_t(pending)) {
                 const size_t count = threads[first].groups.front();
                 for (size_t i = 0; i < count; i++) execute_oldest(site);
                 for (int lane = 0; lane < kWarpLanes; lane++) {
                   auto& groups = threads[first + lane].groups;
                   groups.erase(groups.begin());
                 }
               }
               for (int lane = 0; lane < kWarpLanes; lane++) threads[first + lane].fenced = false;
             });
}

HOSTCUDA_TWIN void hostcuda_hopper_barrier_init(void* barrier, uint32_t arrivals) noexcept {
  const size_t offset = shared_offset(barrier, 8, "an mbarrier", SITE);
  if (arrivals == 0 || arrivals >= 1u << 20)
    fail("initialises an mbarrier for " + std::to_string(arrivals) + " arrivals", SITE);
  Mbarrier& b = state().barriers[offset];
  b = Mbarrier();
  b.arrivals = b.missing = arrivals;
}

HOSTCUDA_TWIN void hostcuda_hopper_barrier_arrive(void* barrier, uint32_t expected_bytes) noexcept {
  Mbarrier& b = find_barrier(barrier, SITE);
  if (b.missing == 0) fail("arrives at an mbarrier that has all arrivals of its phase", SITE);
  release(b.open);
  b.bytes += expected_bytes;
  b.missing--;
  finish_phase(b);
}

HOSTCUDA_TWIN void hostcuda_hopper_barrier_wait(void* barrier, uint32_t parity) noexcept {
  const uintptr_t site = SITE;
  Mbarrier& b = find_barrier(barrier, site);
  if (parity > 1) fail("waits for parity " + std::to_string(parity) + " of an mbarrier", site);
  const int offset = int(reinterpret_cast<uintptr_t>(barrier) - g_engine.shared);
  wait_until({"the mbarrier at %d of shared memory, parity %d", offset, int(parity), site}, [&] {
    if ((b.phase & 1) == parity) land_loads(b);
    return (b.phase & 1) != parity;
  });
  acquire(b.done);
}

HOSTCUDA_TWIN void hostcuda_hopper_load_3d(void* shared, const void* map, void* barrier, int x, int y, int z) noexcept {
  const uintptr_t site = SITE;
  Mbarrier& b = find_barrier(barrier, site);
  Load load;
  memcpy(&load.map, map, sizeof load.map);
  if (reinterpret_cast<uintptr_t>(map) % 64 != 0)
    fail("copies by a tensor map at an address that is not a multiple of 64", site);
  if (load.map.magic != kTensorMapMagic || load.map.rank != 3)
    fail("copies by something that is no tensor map of 3 dimensions", site);
  if (size_t{load.map.box[0]} * load.map.element_bytes != kRowBytes || load.map.swizzle != 3)
    fail("copies by a tensor map whose rows are not 128 bytes, swizzled by 128 bytes", site);
  if (x < 0) fail("copies from a negative column", site);
  const size_t bytes = box_bytes(load.map);
  load.at[0] = x;
  load.at[1] = y;
  load.at[2] = z;
  load.to = shared_offset(shared, bytes, "a tensor copy", site);
  if (load.to % kAtomBytes != 0) fail("copies swizzled rows to shared memory that is not aligned to 1024 bytes", site);
  for_rows(load, [&](size_t, uint64_t from, size_t row) {
    Allocation allocation;
    if (from != 0 && (!find_allocation(from, &allocation) || !allocation.live || from < allocation.begin ||
                      from + row > allocation.begin + allocation.bytes))
      fail("copies rows that are not inside one allocation", site);
  });
  check_pending_readers(load.to, bytes, site);
  check_range(Access::kWrite, reinterpret_cast<uintptr_t>(shared), bytes, site);
  set_in_flight(load.to, bytes);
  release(b.open);
  b.loads.push_back(load);
}

HOSTCUDA_TWIN void hostcuda_hopper_registers(int count) noexcept {
  if (count % 8 != 0 || count < 24 || count > 256)
    fail("asks setmaxnreg for " + std::to_string(count) + " registers", SITE);
}

// CUDA Driver API, "Tensor Map Object Management": the documented limits; of the data types those of 1 to 8 bytes a
// multiply or a copy here uses; no interleaving, element strides of 1, zeros outside.
HOSTCUDA_EXPORT Result cuTensorMapEncodeTiled(void* map, int type, uint32_t rank, void* address, const uint64_t* sizes,
                                              const uint64_t* strides, const uint32_t* box,
                                              const uint32_t* element_strides, int interleave, int swizzle,
                                              int promotion, int fill) {
  if (Result error = enter(__func__)) return error;
  constexpr uint8_t kTypeBytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2};
  constexpr uint32_t kSwizzleRows[] = {256 * 8, 32, 64, 128};
  const uintptr_t at = reinterpret_cast<uintptr_t>(address);
  if (map == nullptr || reinterpret_cast<uintptr_t>(map) % 64 != 0 || at == 0 || at % 16 != 0 || rank < 1 ||
      rank > uint32_t{kTensorMapRank} || sizes == nullptr || box == nullptr || element_strides == nullptr ||
      (rank > 1 && strides == nullptr) || type < 0 || swizzle < 0 || swizzle > 3 || promotion < 0 || promotion > 3)
    return kInvalidValue;
  if (type >= int(sizeof kTypeBytes) || interleave != 0 || fill != 0) return kNotSupported;
  TensorMap encoded = {kTensorMapMagic, kTypeBytes[type], uint8_t(rank), uint8_t(swizzle), 0, at, {}, {}, {}};
  for (uint32_t i = 0; i < rank; i++) {
    if (sizes[i] == 0 || sizes[i] > uint64_t{1} << 32 || box[i] == 0 || box[i] > 256 || element_strides[i] != 1)
      return kInvalidValue;
    encoded.sizes[i] = uint32_t(std::min<uint64_t>(sizes[i], 0xFFFFFFFFu));
    encoded.box[i] = box[i];
    if (i + 1 < rank) {
      if (strides[i] % 16 != 0 || strides[i] >= uint64_t{1} << 40) return kInvalidValue;
      encoded.strides[i] = strides[i];
    }
  }
  const uint32_t row = box[0] * kTypeBytes[type];
  if (row % 16 != 0 || row > kSwizzleRows[swizzle]) return kInvalidValue;
  memset(map, 0, 128);
  memcpy(map, &encoded, sizeof encoded);
  return kSuccess;
}

}  // namespace hostcuda
