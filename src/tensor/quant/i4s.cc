// I4S: symmetric linear codes of 4 bits less 8, as accelerators want them. 4.31 bits an element.
#include "tensor/quant/own.h"

namespace hearth::quant {

constinit const TypeInfo kI4S =
    make_type<Own<PanelFormat{.bits = 4, .scale = ScaleKind::kSuperI8, .zero = 8}>>(Type::kI4S, "I4S");

}  // namespace hearth::quant
