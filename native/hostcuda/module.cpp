// Modules of hostcuda are shared objects that g++ made of a kernel file; a function is its exported entry point.
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "driver.h"
#include "exec.h"

namespace hostcuda {

// Until exec.cpp is linked in.
__attribute__((weak)) std::string execute(const KernelEntry& kernel, const LaunchConfig&, const void*) {
  return std::string(kernel.name) + ": this libhostcuda.so was built without exec.cpp";
}

namespace {

constexpr size_t kSharedWithoutOptIn = 48 << 10;

struct Function {
  std::string name;
  KernelEntry entry;
  size_t max_shared = kSharedWithoutOptIn;
};

struct Module {
  void* library;
  int descriptor;
  uintptr_t begin, end;
  std::map<std::string, std::unique_ptr<Function>> functions;
};

std::mutex g_launch;  // the executor runs one grid at a time
std::mutex g_modules;

// The size of an ELF file whose section headers come last, as ld writes it; 0 for anything else.
size_t image_bytes(const void* image) {
  auto* header = static_cast<const Elf64_Ehdr*>(image);
  if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_ident[EI_CLASS] != ELFCLASS64 ||
      header->e_type != ET_DYN || header->e_machine != EM_X86_64 || header->e_shentsize != sizeof(Elf64_Shdr)) {
    return 0;
  }
  return header->e_shoff + size_t{header->e_shnum} * header->e_shentsize;
}

void find_extent(Module* module) {
  link_map* map = nullptr;
  dlinfo(module->library, RTLD_DI_LINKMAP, &map);
  struct Search {
    uintptr_t base, begin, end;
  } search{map != nullptr ? map->l_addr : 0, ~uintptr_t{0}, 0};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto* s = static_cast<Search*>(data);
        if (info->dlpi_addr != s->base) return 0;
        for (int i = 0; i < info->dlpi_phnum; i++) {
          auto& h = info->dlpi_phdr[i];
          if (h.p_type != PT_LOAD) continue;
          uintptr_t begin = info->dlpi_addr + h.p_vaddr;
          if (begin < s->begin) s->begin = begin;
          if (begin + h.p_memsz > s->end) s->end = begin + h.p_memsz;
        }
        return 1;
      },
      &search);
  module->begin = search.begin;
  module->end = search.end;
}

// Modules call functions of this library, which its user may have loaded for itself alone.
void show_symbols() {
  static const bool done = [] {
    Dl_info self;
    return dladdr(reinterpret_cast<void*>(&show_symbols), &self) != 0 &&
           dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL) != nullptr;
  }();
  (void)done;
}

size_t constant_of(void* library, const std::string& name, size_t bytes) {
  void* symbol = dlsym(library, name.c_str());
  if (symbol == nullptr) return 0;
  size_t value = 0;
  memcpy(&value, symbol, bytes);
  return value;
}

Result classify(const std::string& sentence) {
  auto has = [&](const char* word) { return sentence.find(word) != std::string::npos; };
  if (has("misaligned")) return kMisalignedAddress;
  if (has("past the end") || has("before the") || has("freed") || has("no allocation") || has("outside") ||
      has("no device memory")) {
    return kIllegalAddress;
  }
  return kLaunchFailed;
}

}  // namespace
}  // namespace hostcuda

using namespace hostcuda;

HOSTCUDA_EXPORT Result cuModuleLoadData(void** module, const void* image) {
  if (Result error = enter(__func__)) return error;
  if (!context_is_current()) return kInvalidContext;
  size_t bytes = image_bytes(image);
  if (bytes == 0) return kInvalidImage;
  int descriptor = memfd_create("hostcuda module", MFD_CLOEXEC);
  if (descriptor < 0) return kOutOfMemory;
  for (size_t done = 0; done < bytes;) {
    ssize_t written = write(descriptor, static_cast<const char*>(image) + done, bytes - done);
    if (written <= 0) {
      close(descriptor);
      return kOutOfMemory;
    }
    done += static_cast<size_t>(written);
  }
  // The descriptor stays open while the module lives: dlopen knows libraries by path, and this path must not come to mean another file.
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
  show_symbols();
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    fprintf(stderr, "hostcuda: %s\n", dlerror());
    close(descriptor);
    return kInvalidImage;
  }
  auto* m = new Module{library, descriptor, 0, 0, {}};
  find_extent(m);
  add_handle(m, Kind::kModule);
  *module = m;
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuModuleUnload(void* module) {
  if (Result error = enter_release(__func__)) return error;
  if (!remove_handle(module, Kind::kModule)) return kInvalidHandle;
  auto* m = static_cast<Module*>(module);
  dlclose(m->library);
  close(m->descriptor);
  delete m;
  return after_release();
}

HOSTCUDA_EXPORT Result cuModuleGetFunction(void** function, void* module, const char* name) {
  if (Result error = enter(__func__)) return error;
  if (!is_handle(module, Kind::kModule)) return kInvalidHandle;
  auto* m = static_cast<Module*>(module);
  std::lock_guard lock(g_modules);
  auto& f = m->functions[name];
  if (f == nullptr) {
    void* body = dlsym(m->library, name);
    size_t param_bytes = constant_of(m->library, std::string(name) + "_param_bytes", sizeof(size_t));
    if (body == nullptr || param_bytes == 0) {
      m->functions.erase(name);
      return kNotFound;
    }
    f = std::make_unique<Function>();
    f->name = name;
    f->entry.name = f->name.c_str();
    f->entry.body = reinterpret_cast<void (*)(const void*)>(body);
    f->entry.param_bytes = param_bytes;
    f->entry.max_threads =
        static_cast<int>(constant_of(m->library, std::string(name) + "_max_threads", sizeof(int)));
    f->entry.image_begin = m->begin;
    f->entry.image_end = m->end;
  }
  *function = f.get();
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuFuncGetParamInfo(void* function, size_t index, size_t* offset, size_t* bytes) {
  if (Result error = enter(__func__)) return error;
  if (index != 0) return kInvalidValue;
  *offset = 0;
  if (bytes != nullptr) *bytes = static_cast<Function*>(function)->entry.param_bytes;
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuFuncGetAttribute(int* value, int attribute, void* function) {
  if (Result error = enter(__func__)) return error;
  auto* f = static_cast<Function*>(function);
  switch (attribute) {
    case 0: *value = f->entry.max_threads; return kSuccess;
    case 8: *value = static_cast<int>(f->max_shared); return kSuccess;
    default: *value = 0; return kSuccess;
  }
}

HOSTCUDA_EXPORT Result cuFuncSetAttribute(void* function, int attribute, int value) {
  if (Result error = enter(__func__)) return error;
  auto* f = static_cast<Function*>(function);
  if (attribute != 8) return kSuccess;  // a carveout is a hint
  if (value < 0 || static_cast<size_t>(value) > shared_limit()) return kInvalidValue;
  f->max_shared = static_cast<size_t>(value);
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int, size_t) {
  if (Result error = enter(__func__)) return error;
  *blocks = 1;
  return kSuccess;
}

HOSTCUDA_EXPORT Result cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                      unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream,
                                      void** params, void** extra) {
  if (Result error = enter(__func__)) return error;
  if (!context_is_current()) return kInvalidContext;
  if (function == nullptr || params == nullptr || extra != nullptr) return kInvalidValue;
  auto* f = static_cast<Function*>(function);
  size_t threads = size_t{block_x} * block_y * block_z;
  if (grid_x == 0 || grid_y == 0 || grid_z == 0 || threads == 0 || threads > 1024 || grid_x > 0x7FFFFFFFu ||
      grid_y > 65535 || grid_z > 65535 || block_z > 64 || shared_bytes > f->max_shared) {
    return kInvalidValue;
  }
  if (f->entry.max_threads != 0 && threads > static_cast<size_t>(f->entry.max_threads)) return kLaunchOutOfResources;
  LaunchConfig config{{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes};
  struct alignas(64) Line { char bytes[64]; };  // a tensor map among the parameters is aligned so
  std::vector<Line> copy((f->entry.param_bytes + sizeof(Line) - 1) / sizeof(Line));
  memcpy(copy.data(), params[0], f->entry.param_bytes);
  return submit(stream, [f, config, copy = std::move(copy)] {
    if (after_release() != kSuccess) return after_release();
    count_launch();
    std::lock_guard lock(g_launch);
    std::string fault = execute(f->entry, config, copy.data());
    if (!fault.empty()) set_fault(classify(fault), fault);
    return kSuccess;
  });
}
