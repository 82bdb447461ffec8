// I5: linear codes of 5 bits less 16. 5.31 bits an element.
#include "tensor/quant/own.h"

namespace hearth::quant {

constinit const TypeInfo kI5 =
    make_type<Own<PanelFormat{.bits = 5, .scale = ScaleKind::kSuperI8, .zero = 16}>>(Type::kI5, "I5");

}  // namespace hearth::quant
