// The slow paths of the checks, and the callbacks that -fsanitize=thread puts before every access of a kernel.
#include "shadow.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>

#include "memory.h"

namespace hostcuda {

Shadow g_shadow;

namespace {

constexpr size_t kMaxPages = 8192;  // 32 KiB each; beyond it a launch starts with none

std::vector<ShadowPage*> g_pages, g_free_pages;
std::vector<std::pair<ShadowPage**, size_t>> g_places;  // where g_pages hang, for forget_shadow

template <class T> T* zeroed(size_t count, const char* what) {
  void* p = mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                 0);
  if (p == MAP_FAILED) {
    fprintf(stderr, "hostcuda: cannot reserve memory for %s\n", what);
    abort();
  }
  return static_cast<T*>(p);
}

std::string number(uint64_t n) { return std::to_string(n); }

bool near_shared(uintptr_t address) {
  return address - (g_engine.shared - kSharedZone) < kSharedCapacity + 2 * kSharedZone;
}

bool find(uintptr_t address, size_t bytes, Allocation* a) {
  // The last byte of an access may already lie on a page that is nobody's, or the first one.
  return find_allocation(address, a) || find_allocation(address + bytes - 1, a);
}

std::string verb(Access access) {
  return access == Access::kRead ? "reads " : access == Access::kWrite ? "writes " : "atomically changes ";
}

std::string place(uintptr_t address, size_t bytes) {
  const Engine& e = g_engine;
  if (near_shared(address)) return "shared offset " + std::to_string(int64_t(address - e.shared));
  Allocation a;
  if (!find(address, bytes, &a)) return "an address that is no device memory";
  return "offset " + number(address - a.begin) + " of a " + number(a.bytes) + "-byte allocation";
}

std::string action(Access access, uintptr_t address, size_t bytes) {
  return verb(access) + number(bytes) + (bytes == 1 ? " byte at " : " bytes at ") + place(address, bytes);
}

}  // namespace

void fail_misaligned(Access access, uintptr_t address, size_t bytes, uintptr_t site) {
  fail(action(access, address, bytes) + ": misaligned, an access of " + number(bytes) +
           " bytes needs an address that is a multiple of " + number(bytes), site);
}

void fail_constant(Access access, uintptr_t, size_t bytes, uintptr_t site) {
  fail(verb(access) + number(bytes) + " bytes of the module's own data, which a kernel must not write", site);
}

void fail_shared_state(Access access, uintptr_t address, size_t bytes, uintptr_t site) {
  const uint8_t* state = g_shadow.shared_state + (address - g_engine.shared);
  for (size_t i = 0; i < bytes; i++) {
    if (state[i] == kInFlight) {
      fail(action(access, address, bytes) + " where an asynchronous copy is still under way: its wait is missing",
           site);
    }
  }
  fail(action(access, address, bytes) + ": uninitialised shared memory", site);
}

void fail_bounds(Access access, uintptr_t address, size_t bytes, uintptr_t site) {
  const Engine& e = g_engine;
  const std::string head = verb(access) + number(bytes) + (bytes == 1 ? " byte at " : " bytes at ");
  if (near_shared(address)) {
    const size_t offset = address - e.shared;
    const std::string memory = "the " + number(e.shared_bytes) + " bytes of shared memory";
    if (address < e.shared) fail(head + number(e.shared - address) + " bytes before the start of " + memory, site);
    if (offset >= e.shared_bytes)
      fail(head + number(offset - e.shared_bytes) + " bytes past the end of " + memory, site);
    fail(head + "shared offset " + number(offset) + ", partly past the end of " + memory, site);
  }
  Allocation a;
  if (!find(address, bytes, &a)) {
    char text[32];
    snprintf(text, sizeof text, "0x%zx", size_t(address));
    fail(head + text + ", where there is no device memory", site);
  }
  const std::string memory = "a " + number(a.bytes) + "-byte allocation";
  if (!a.live) fail(head + "offset " + number(address - a.begin) + " of " + memory + " that was freed", site);
  if (address < a.begin) fail(head + number(a.begin - address) + " bytes before the start of " + memory, site);
  if (address >= a.begin + a.bytes)
    fail(head + number(address - a.begin - a.bytes) + " bytes past the end of " + memory, site);
  fail(head + "offset " + number(address - a.begin) + ", partly past the end of " + memory, site);
}

void conflict(uint64_t record, bool record_writes, Access access, uintptr_t address, size_t bytes, uintptr_t site) {
  Engine& e = g_engine;
  const std::string other_verb = record_writes ? "writes" : "reads";
  const std::string kind = std::string(" (race ") + (access == Access::kRead ? "read" : "write") + "/" +
                           (record_writes ? "write)" : "read)");
  if (serial_of(record) != e.serial) {
    const uint64_t block = serial_of(record) - e.first_serial;
    if (e.acquired && e.released[block]) return;
    const uint3 g = e.grid_dim;
    fail(action(access, address, bytes) + " that block (" + number(block % g.x) + "," + number(block / g.x % g.y) +
             "," + number(block / g.x / g.y) + ") " + other_verb + " in the same launch" + kind, site);
  }
  const bool itself = thread_of(record) == self().index;  // one of several readers, the others are not known any more
  const std::string other = itself ? "another thread" : describe(e.fibers[thread_of(record)]);
  fail(action(access, address, bytes) + " that " + other + " " + other_verb + " with no barrier between" + kind, site);
}

ShadowPage* refresh_page(Access access, uintptr_t address, size_t bytes, uintptr_t site) {
  Allocation a;
  const uintptr_t number = address / kPageBytes, first = number * kPageBytes;
  if (near_shared(address) || !find_allocation(address, &a) || !a.live || address < a.begin ||
      address + bytes > a.begin + a.bytes || number >> (kLeafBits + kDirectoryBits) != 0) {
    fail_bounds(access, address, bytes, site);
  }
  ShadowPage**& leaf = g_shadow.directory[number >> kLeafBits];
  if (leaf == nullptr) leaf = zeroed<ShadowPage*>(size_t{1} << kLeafBits, "the page table of race checks");
  ShadowPage*& page = leaf[number & ((1u << kLeafBits) - 1)];
  if (page == nullptr) {
    if (g_free_pages.empty()) {
      constexpr size_t kChunk = 64;
      auto* chunk = zeroed<ShadowPage>(kChunk, "race checks");
      for (size_t i = 0; i < kChunk; i++) g_free_pages.push_back(chunk + i);
    }
    page = g_free_pages.back();
    g_free_pages.pop_back();
    g_pages.push_back(page);
    g_places.push_back({leaf, number & ((1u << kLeafBits) - 1)});
  }
  const uintptr_t begin = a.begin > first ? a.begin - first : 0, end = a.begin + a.bytes - first;
  page->begin = uint16_t(begin);
  page->end = uint16_t(end < kPageBytes ? end : kPageBytes);
  page->launch = g_shadow.launch;
  return page;
}

namespace {

// Gives the pages back; what they hold is of earlier launches and reads as such.
void recycle() {
  for (size_t i = 0; i < g_pages.size(); i++) {
    g_places[i].first[g_places[i].second] = nullptr;
    g_free_pages.push_back(g_pages[i]);
  }
  g_pages.clear();
  g_places.clear();
}

}  // namespace

void begin_launch_shadow() {
  Shadow& s = g_shadow;
  if (s.directory == nullptr) {
    s.directory = zeroed<ShadowPage**>(size_t{1} << kDirectoryBits, "the page table of race checks");
    s.shared_state = zeroed<uint8_t>(kSharedCapacity + 16, "the state of shared memory");
    s.shared_cells = zeroed<Cell>(kSharedCapacity / 2 + 8, "race checks of shared memory");
  }
  if (++s.launch == 0) s.launch = 1;
  if (g_pages.size() > kMaxPages) recycle();
}

void forget_shadow() {
  if (g_shadow.directory == nullptr) return;
  recycle();
  for (ShadowPage* page : g_free_pages) memset(page, 0, sizeof *page);
  memset(g_shadow.shared_cells, 0, (kSharedCapacity / 2 + 8) * sizeof(Cell));
}

void begin_block_shadow() {
  memset(g_shadow.shared_state, kUninitialised, g_engine.shared_bytes);
  memset(reinterpret_cast<void*>(g_engine.shared), 0xFF, g_engine.shared_bytes);  // NaN in every format
}

namespace {

template <Access kAccess> void check_one(uintptr_t address, size_t bytes, uintptr_t site) {
  switch (bytes) {
    case 16: return check_access<16, kAccess>(address, site);
    case 8: return check_access<8, kAccess>(address, site);
    case 4: return check_access<4, kAccess>(address, site);
    case 2: return check_access<2, kAccess>(address, site);
    default: return check_access<1, kAccess>(address, site);
  }
}

}  // namespace

void check_range(Access access, uintptr_t address, size_t bytes, uintptr_t site) {
  while (bytes != 0) {
    size_t piece = 16;
    while (piece > bytes || address % piece != 0) piece /= 2;
    if (access == Access::kRead) check_one<Access::kRead>(address, piece, site);
    else check_one<Access::kWrite>(address, piece, site);
    address += piece;
    bytes -= piece;
  }
}

size_t shared_offset(const void* address, size_t bytes, const char* what, uintptr_t site) {
  const auto a = reinterpret_cast<uintptr_t>(address);
  if (!near_shared(a)) fail(std::string("gives ") + what + " an address outside shared memory", site);
  if (a < g_engine.shared || a + bytes > g_engine.shared + g_engine.shared_bytes)
    fail_bounds(Access::kWrite, a, bytes, site);
  return a - g_engine.shared;
}

void set_in_flight(size_t offset, size_t bytes) { memset(g_shadow.shared_state + offset, kInFlight, bytes); }

void land(size_t offset, const void* from, size_t bytes, uintptr_t site) {
  memset(g_shadow.shared_state + offset, kInitialised, bytes);
  check_range(Access::kWrite, g_engine.shared + offset, bytes, site);
  void* to = reinterpret_cast<void*>(g_engine.shared + offset);
  if (from != nullptr) memcpy(to, from, bytes);
  else memset(to, 0, bytes);
}

}  // namespace hostcuda

using namespace hostcuda;

#define SITE reinterpret_cast<uintptr_t>(__builtin_return_address(0))

namespace {

bool own_stack(const void* p) {
  return reinterpret_cast<uintptr_t>(p) - self().stack_low < self().stack_bytes;
}

// Out of line, so that an access to the stack returns before any register is saved.
template <size_t kBytes, Access kAccess> __attribute__((noinline)) void check_memory(void* p, uintptr_t site) {
  check_access<kBytes, kAccess>(reinterpret_cast<uintptr_t>(p), site);
}

}  // namespace

#define TSAN_ACCESS(bytes)                                                                   \
  HOSTCUDA_TWIN void __tsan_read##bytes(void* p) {                                           \
    if (!own_stack(p)) check_memory<bytes, Access::kRead>(p, SITE);                          \
  }                                                                                          \
  HOSTCUDA_TWIN void __tsan_write##bytes(void* p) {                                          \
    if (!own_stack(p)) check_memory<bytes, Access::kWrite>(p, SITE);                         \
  }

TSAN_ACCESS(1)
TSAN_ACCESS(2)
TSAN_ACCESS(4)
TSAN_ACCESS(8)
TSAN_ACCESS(16)

// The compiler emits these where a type promises less alignment than its size; the device has no such accesses.
#define TSAN_UNALIGNED(bytes)                                                                \
  HOSTCUDA_TWIN void __tsan_unaligned_read##bytes(void* p) {                                 \
    check_range(Access::kRead, reinterpret_cast<uintptr_t>(p), bytes, SITE);                 \
  }                                                                                          \
  HOSTCUDA_TWIN void __tsan_unaligned_write##bytes(void* p) {                                \
    check_range(Access::kWrite, reinterpret_cast<uintptr_t>(p), bytes, SITE);                \
  }

TSAN_UNALIGNED(2)
TSAN_UNALIGNED(4)
TSAN_UNALIGNED(8)
TSAN_UNALIGNED(16)

HOSTCUDA_TWIN void __tsan_read_range(void* p, size_t bytes) {
  check_range(Access::kRead, reinterpret_cast<uintptr_t>(p), bytes, SITE);
}
HOSTCUDA_TWIN void __tsan_write_range(void* p, size_t bytes) {
  check_range(Access::kWrite, reinterpret_cast<uintptr_t>(p), bytes, SITE);
}
// clang's form of copies and fills of whole structs.
HOSTCUDA_TWIN void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  check_range(Access::kRead, reinterpret_cast<uintptr_t>(from), bytes, SITE);
  check_range(Access::kWrite, reinterpret_cast<uintptr_t>(to), bytes, SITE);
  return memcpy(to, from, bytes);
}
HOSTCUDA_TWIN void* __tsan_memmove(void* to, const void* from, size_t bytes) {
  check_range(Access::kRead, reinterpret_cast<uintptr_t>(from), bytes, SITE);
  check_range(Access::kWrite, reinterpret_cast<uintptr_t>(to), bytes, SITE);
  return memmove(to, from, bytes);
}
HOSTCUDA_TWIN void* __tsan_memset(void* to, int value, size_t bytes) {
  check_range(Access::kWrite, reinterpret_cast<uintptr_t>(to), bytes, SITE);
  return memset(to, value, bytes);
}
HOSTCUDA_TWIN void __tsan_init() {}
HOSTCUDA_TWIN void __tsan_func_entry(void*) {}
HOSTCUDA_TWIN void __tsan_func_exit() {}
HOSTCUDA_TWIN void __tsan_vptr_update(void**, void*) {}
HOSTCUDA_TWIN void __tsan_vptr_read(void**) {}

HOSTCUDA_TWIN HostWord4 hostcuda_load_16(const void* p) noexcept {
  check_read<16>(p, SITE);
  HostWord4 value;
  memcpy(&value, p, 16);
  return value;
}

HOSTCUDA_TWIN void hostcuda_store_16(void* p, HostWord4 value) noexcept {
  check_write<16>(p, SITE);
  memcpy(p, &value, 16);
}

HOSTCUDA_TWIN void hostcuda_thread_fence() noexcept { g_engine.fenced = true; }

HOSTCUDA_TWIN int hostcuda_atomic_add(int* p, int value) noexcept {
  check_access<4, Access::kAtomic>(reinterpret_cast<uintptr_t>(p), SITE);
  Engine& e = g_engine;
  e.acquired = true;
  if (e.fenced) e.released[e.serial - e.first_serial] = true;
  const int before = *p;
  *p = before + value;
  return before;
}
