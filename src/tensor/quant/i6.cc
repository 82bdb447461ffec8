// I6: linear codes of 6 bits less 32. 6.31 bits an element.
#include "tensor/quant/own.h"

namespace hearth::quant {

constinit const TypeInfo kI6 =
    make_type<Own<PanelFormat{.bits = 6, .scale = ScaleKind::kSuperI8, .zero = 32}>>(Type::kI6, "I6");

}  // namespace hearth::quant
