// I4H: codes of 4 bits that stand for odd integers, what is left of I8 without its low codes. 4.31 bits an element.
#include "tensor/quant/own.h"

namespace hearth::quant {

constinit const TypeInfo kI4H =
    make_type<Own<PanelFormat{.bits = 4, .scale = ScaleKind::kSuperI8, .has_table = true, .table = kOddTable}>>(
        Type::kI4H, "I4H");

}  // namespace hearth::quant
