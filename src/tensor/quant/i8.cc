// I8: nested, a high and a low code of 4 bits each (panel.h), the high one by itself an I4H. 8.31 bits an element.
#include "tensor/quant/own.h"

namespace hearth::quant {

constinit const TypeInfo kI8 = make_type<
    Own<PanelFormat{.bits = 4, .scale = ScaleKind::kSuperI8, .has_table = true, .table = kOddTable, .has_low = true}>>(
    Type::kI8, "I8");

}  // namespace hearth::quant
