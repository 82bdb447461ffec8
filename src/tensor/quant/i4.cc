// I4: indices of 4 bits into IQ4_NL's table, in panels those of IQ4_XS. 4.31 bits an element.
#include "tensor/quant/own.h"

namespace hearth::quant {

constinit const TypeInfo kI4 =
    make_type<Own<PanelFormat{.bits = 4, .scale = ScaleKind::kSuperI8, .has_table = true, .table = kIq4Table}>>(
        Type::kI4, "I4");

}  // namespace hearth::quant
