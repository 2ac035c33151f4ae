// Which level this processor can run: its instructions, and an operating system that keeps their
// registers (XGETBV), which a virtual machine may withhold.
#include <cstdint>
#include <cstring>

#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace puna {
namespace {

#if defined(__x86_64__)
struct Registers {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers ask(uint32_t leaf, uint32_t part) {
  Registers r;
  if (!__get_cpuid_count(leaf, part, &r.a, &r.b, &r.c, &r.d)) return {};
  return r;
}

bool bit(uint32_t word, int index) { return (word >> index) & 1; }

// Source of the bits: Intel 64 and IA-32 Architectures Software Developer's Manual, CPUID.
struct Cpu {
  bool avx2 = false, avx512 = false, bf16 = false;

  Cpu() {
    const Registers one = ask(1, 0), seven = ask(7, 0), more = ask(7, 1);
    if (!bit(one.c, 27)) return;  // OSXSAVE
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    const bool keeps_ymm = (low & 0x6) == 0x6, keeps_zmm = (low & 0xe6) == 0xe6;
    avx2 = keeps_ymm && bit(one.c, 28) && bit(one.c, 12) && bit(one.c, 29) && bit(seven.b, 5);
    const bool basic = bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 30) && bit(seven.b, 31);
    avx512 = avx2 && keeps_zmm && basic && bit(seven.c, 11);
    bf16 = avx512 && bit(more.a, 5);
  }
};
#endif

#if defined(__aarch64__)
bool has_dot_products() {
#if defined(__linux__)
  return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#else
  return true;  // every processor of Apple that has 64 bits and runs macOS
#endif
}
#endif

bool runs(const char* name) {
  if (!std::strcmp(name, "portable")) return true;
#if defined(__x86_64__)
  static const Cpu cpu;
  if (!std::strcmp(name, "avx2")) return cpu.avx2;
  if (!std::strcmp(name, "avx512")) return cpu.avx512;
  if (!std::strcmp(name, "avx512bf16")) return cpu.bf16;
#elif defined(__aarch64__)
  if (!std::strcmp(name, "neon")) return true;  // every ARMv8-A of 64 bits has it
  if (!std::strcmp(name, "neondot")) return has_dot_products();
#endif
  return false;
}

}  // namespace

const Kernels* kernels_of(const char* name) {
  const Kernels* const tables[] = {
#if defined(__x86_64__)
      &kernels_avx512bf16,
      &kernels_avx512,
      &kernels_avx2,
#elif defined(__aarch64__)
      &kernels_neondot,
      &kernels_neon,
#endif
      &kernels_portable,
  };
  for (const Kernels* table : tables)
    if (runs(table->name) && (!*name || !std::strcmp(name, table->name))) return table;
  return nullptr;
}

}  // namespace puna
