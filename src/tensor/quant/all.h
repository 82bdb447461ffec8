// The entries of the registry of element types, one per file of this folder.
#pragma once

#include "tensor/type.h"

namespace hearth::quant {

extern const TypeInfo kF32;
extern const TypeInfo kF16;
extern const TypeInfo kQ4_0;
extern const TypeInfo kQ4_1;
extern const TypeInfo kQ5_0;
extern const TypeInfo kQ5_1;
extern const TypeInfo kQ8_0;
extern const TypeInfo kQ2_K;
extern const TypeInfo kQ3_K;
extern const TypeInfo kQ4_K;
extern const TypeInfo kQ5_K;
extern const TypeInfo kQ6_K;
extern const TypeInfo kIQ4_NL;
extern const TypeInfo kIQ4_XS;
extern const TypeInfo kBF16;
extern const TypeInfo kMXFP4;
extern const TypeInfo kI4;
extern const TypeInfo kI4S;
extern const TypeInfo kI4H;
extern const TypeInfo kI5;
extern const TypeInfo kI6;
extern const TypeInfo kI8;

}  // namespace hearth::quant
