// The table of a level by its name, whatever this processor has: for levels that are emulated.
//
// Takes the place of native/cpu.cpp in the program that test_avx512.py builds.
#include <cstring>
#include <initializer_list>

#include "kernels.h"

namespace puna {

const Kernels* kernels_of(const char* name) {
  for (const Kernels* one :
       {&kernels_avx512bf16, &kernels_avx512, &kernels_avx2, &kernels_portable})
    if (!*name || !std::strcmp(name, one->name)) return one;
  return nullptr;
}

}  // namespace puna
