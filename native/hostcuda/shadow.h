// The checks of memory accesses: bounds, alignment, initialised shared memory, races.
//
// Every two bytes of shared memory and of touched global memory have a cell with the last write and the last read. A
// record of an access holds who made it: | serial of the block 26 | thread 10 | clock 24 | bytes 2 | several 1 | atomic
// 1 |. A thread's clock advances whenever it synchronises. An earlier access of another thread of the block is ordered
// before this one when this thread knows (Fiber::known) that the other's warp has passed that clock; if not, and one of
// the two writes, it is a race. An access of another block of the same launch is never ordered, unless that block
// published by a fence and an atomic and this one has since made an atomic. Of several concurrent readers only the
// newest is kept, with a mark that there were several: a race of a write with an older reader can be missed, none is
// reported falsely.
#pragma once
#include <cstring>

#include "device.h"

namespace hostcuda {

constexpr int kAtomicBit = 0, kSeveralBit = 1, kBytesShift = 2, kClockShift = 4, kThreadShift = 28, kSerialShift = 38;
constexpr uint64_t kAtomic = 1u << kAtomicBit, kSeveral = 1u << kSeveralBit, kClockMask = (1u << 24) - 1;
constexpr uint64_t kMaxSerial = (uint64_t{1} << 26) - 1;

inline uint64_t make_stamp(uint64_t serial, int thread, uint32_t clock) {
  return serial << kSerialShift | uint64_t(thread) << kThreadShift | (clock & kClockMask) << kClockShift;
}
inline uint32_t clock_of(uint64_t record) { return uint32_t(record >> kClockShift & kClockMask); }
inline int thread_of(uint64_t record) { return int(record >> kThreadShift & 1023); }
inline uint64_t serial_of(uint64_t record) { return record >> kSerialShift; }

struct Cell {
  uint64_t write, read;
};

constexpr size_t kPageBytes = 4096, kPageCells = kPageBytes / 2;

// One page of global memory that a kernel has touched.
struct ShadowPage {
  uint32_t launch;      // for which the bounds were looked up
  uint16_t begin, end;  // the part of the page that belongs to the allocation
  Cell cells[kPageCells];
};

enum ByteState : uint8_t { kUninitialised = 0, kInitialised = 1, kInFlight = 2 };

struct Shadow {
  uint32_t launch = 0;
  uint8_t* shared_state = nullptr;  // ByteState of each byte
  Cell* shared_cells = nullptr;
  ShadowPage*** directory = nullptr;  // page number -> leaf -> page
};
extern Shadow g_shadow;

constexpr int kLeafBits = 17, kDirectoryBits = 18;

enum class Access { kRead, kWrite, kAtomic };

// Slow paths: a fault, or (conflict, refresh_page) the finding that the access is legal so far.
[[noreturn]] void fail_misaligned(Access access, uintptr_t address, size_t bytes, uintptr_t site);
[[noreturn]] void fail_constant(Access access, uintptr_t address, size_t bytes, uintptr_t site);
[[noreturn]] void fail_shared_state(Access access, uintptr_t address, size_t bytes, uintptr_t site);
void conflict(uint64_t record, bool record_writes, Access access, uintptr_t address, size_t bytes, uintptr_t site);
ShadowPage* refresh_page(Access access, uintptr_t address, size_t bytes, uintptr_t site);
[[noreturn]] void fail_bounds(Access access, uintptr_t address, size_t bytes, uintptr_t site);

void begin_launch_shadow();
void forget_shadow();  // of global memory: serials start again
void begin_block_shadow();

// Is the access of `record` not ordered before what `f` does now? `floor`: records below are of earlier launches or
// blocks.
inline bool unordered(const Fiber& f, uint64_t record, uint64_t floor) {
  if (record < floor || (record ^ f.stamp) >> kThreadShift == 0) return false;
  if ((record ^ f.stamp) >> kSerialShift != 0) return true;
  return f.known[thread_of(record) / kWarpLanes] < clock_of(record);
}

template <Access kAccess>
__attribute__((always_inline)) inline void check_cell(const Fiber& f, Cell& cell, uint64_t bytes_mask, uint64_t floor,
                                                      uintptr_t address, size_t bytes, uintptr_t site) {
  const uint64_t w = cell.write;
  const uint64_t mine = f.stamp | bytes_mask << kBytesShift;
  if (unordered(f, w, floor) && (w >> kBytesShift & bytes_mask) != 0 && !(kAccess == Access::kAtomic && (w & kAtomic)))
      [[unlikely]] {
    conflict(w, true, kAccess, address, bytes, site);
  }
  const uint64_t r = cell.read;
  if constexpr (kAccess == Access::kRead) {
    if ((r ^ mine) >> kClockShift == 0) {
      cell.read = r | mine;
    } else {
      const bool several = (r >> kBytesShift & bytes_mask) != 0 &&
                           unordered(f, r, f.stamp >> kSerialShift << kSerialShift);
      cell.read = several ? mine | kSeveral : mine;
    }
  } else {
    if ((r >> kBytesShift & bytes_mask) != 0 && r >= floor) {
      if (unordered(f, r, floor) || ((r & kSeveral) && (r ^ mine) >> kClockShift == 0)) [[unlikely]]
        conflict(r, false, kAccess, address, bytes, site);
    }
    cell.write = kAccess == Access::kAtomic ? mine | kAtomic : mine;
  }
}

template <Access kAccess>
__attribute__((always_inline)) inline void check_cells(const Fiber& f, Cell* cells, uint64_t floor, uintptr_t address,
                                                       size_t bytes, uintptr_t site) {
  if (bytes == 1) {
    check_cell<kAccess>(f, *cells, address & 1 ? 2 : 1, floor, address, bytes, site);
    return;
  }
  for (size_t i = 0; i < bytes / 2; i++) check_cell<kAccess>(f, cells[i], 3, floor, address, bytes, site);
}

template <size_t kBytes> inline bool all_initialised(const uint8_t* state) {
  if constexpr (kBytes == 16) {
    uint64_t s[2];
    memcpy(s, state, 16);
    return ((s[0] ^ 0x0101010101010101u) | (s[1] ^ 0x0101010101010101u)) == 0;
  } else if constexpr (kBytes == 8) {
    uint64_t s;
    memcpy(&s, state, 8);
    return s == 0x0101010101010101u;
  } else if constexpr (kBytes == 4) {
    uint32_t s;
    memcpy(&s, state, 4);
    return s == 0x01010101u;
  } else if constexpr (kBytes == 2) {
    uint16_t s;
    memcpy(&s, state, 2);
    return s == 0x0101u;
  } else {
    return *state == kInitialised;
  }
}

// The checks of one access of kBytes (1, 2, 4, 8, 16) bytes by the running fiber; natural alignment is asked for.
template <size_t kBytes, Access kAccess>
__attribute__((always_inline)) inline void check_access(uintptr_t address, uintptr_t site) {
  Fiber& f = self();
  if (address - f.stack_low < f.stack_bytes) return;
  if (address % kBytes != 0) [[unlikely]]
    fail_misaligned(kAccess, address, kBytes, site);
  if constexpr (kAccess != Access::kWrite) {
    if (++f.reads_in_a_row >= kReadsPerTurn) [[unlikely]]
      yield_reading(site);
  } else {
    f.reads_in_a_row = 0;
  }
  Engine& e = g_engine;
  const size_t offset = address - e.shared;
  if (offset < e.shared_bytes) {
    if (offset + kBytes > e.shared_bytes) [[unlikely]]
      fail_bounds(kAccess, address, kBytes, site);
    uint8_t* state = g_shadow.shared_state + offset;
    if constexpr (kAccess == Access::kWrite) {
      if (!all_initialised<kBytes>(state)) {
        for (size_t i = 0; i < kBytes; i++)
          if (state[i] == kInFlight) [[unlikely]]
            fail_shared_state(kAccess, address, kBytes, site);
        memset(state, kInitialised, kBytes);
      }
    } else if (!all_initialised<kBytes>(state)) [[unlikely]] {
      fail_shared_state(kAccess, address, kBytes, site);
    }
    check_cells<kAccess>(f, g_shadow.shared_cells + offset / 2, e.serial << kSerialShift, address, kBytes, site);
    return;
  }
  if (address - e.image_begin < e.image_bytes) {
    if constexpr (kAccess != Access::kRead) fail_constant(kAccess, address, kBytes, site);
    return;
  }
  const uintptr_t number = address / kPageBytes;
  ShadowPage* page = nullptr;
  if (number >> (kLeafBits + kDirectoryBits) == 0) [[likely]] {
    ShadowPage** leaf = g_shadow.directory[number >> kLeafBits];
    if (leaf != nullptr) [[likely]]
      page = leaf[number & ((1u << kLeafBits) - 1)];
  }
  if (page == nullptr || page->launch != g_shadow.launch) [[unlikely]]
    page = refresh_page(kAccess, address, kBytes, site);
  const size_t in_page = address % kPageBytes;
  if (in_page < page->begin || in_page + kBytes > page->end) [[unlikely]]
    fail_bounds(kAccess, address, kBytes, site);
  check_cells<kAccess>(f, page->cells + in_page / 2, e.first_serial << kSerialShift, address, kBytes, site);
}

template <size_t kBytes> void check_read(const void* p, uintptr_t site) {
  check_access<kBytes, Access::kRead>(reinterpret_cast<uintptr_t>(p), site);
}
template <size_t kBytes> void check_write(void* p, uintptr_t site) {
  check_access<kBytes, Access::kWrite>(reinterpret_cast<uintptr_t>(p), site);
}

// The same for any number of bytes, at any alignment.
void check_range(Access access, uintptr_t address, size_t bytes, uintptr_t site);

// For instructions that write shared memory later: the offset of [address, address + bytes), which must lie in shared
// memory.
size_t shared_offset(const void* address, size_t bytes, const char* what, uintptr_t site);
// From here until land, nobody may touch the bytes.
void set_in_flight(size_t offset, size_t bytes);
// Copies `from` (zeros when null) to shared memory; a write of the running fiber, now.
void land(size_t offset, const void* from, size_t bytes, uintptr_t site);

}  // namespace hostcuda
