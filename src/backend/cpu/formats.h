// The panel formats that fast kernels are compiled for, as constants: those of the registry of element types (a test
// compares).
#pragma once

#include <array>

#include "tensor/panel.h"

namespace hearth::cpu::formats {

inline constexpr std::array<int8_t, 16> kIq4Table = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                     1,    13,   25,  38,  53,  69,  89,  113};
inline constexpr std::array<int8_t, 16> kFp4Table = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

inline constexpr PanelFormat kF32{.bits = 32};
inline constexpr PanelFormat kF16{.bits = 16};
inline constexpr PanelFormat kBF16{.bits = 16, .bfloat = true};
inline constexpr PanelFormat kQ4_0{.bits = 4, .scale = ScaleKind::kF16, .zero = 8};
inline constexpr PanelFormat kQ4_1{.bits = 4, .scale = ScaleKind::kF16, .has_min = true};
inline constexpr PanelFormat kQ5_0{.bits = 5, .scale = ScaleKind::kF16, .zero = 16};
inline constexpr PanelFormat kQ5_1{.bits = 5, .scale = ScaleKind::kF16, .has_min = true};
inline constexpr PanelFormat kQ8_0{.bits = 8, .scale = ScaleKind::kF16};
inline constexpr PanelFormat kQ2_K{.bits = 2, .block = 16, .scale = ScaleKind::kSuperU8, .has_min = true};
inline constexpr PanelFormat kQ3_K{.bits = 3, .block = 16, .scale = ScaleKind::kSuperI8, .zero = 4};
inline constexpr PanelFormat kQ4_K{.bits = 4, .scale = ScaleKind::kSuperU8, .has_min = true};
inline constexpr PanelFormat kQ5_K{.bits = 5, .scale = ScaleKind::kSuperU8, .has_min = true};
inline constexpr PanelFormat kQ6_K{.bits = 6, .block = 16, .scale = ScaleKind::kSuperI8, .zero = 32};
inline constexpr PanelFormat kIQ4_NL{.bits = 4, .scale = ScaleKind::kF16, .has_table = true, .table = kIq4Table};
inline constexpr PanelFormat kIQ4_XS{.bits = 4, .scale = ScaleKind::kSuperI8, .has_table = true, .table = kIq4Table};
inline constexpr PanelFormat kMXFP4{.bits = 4, .scale = ScaleKind::kE8M0, .has_table = true, .table = kFp4Table};
inline constexpr PanelFormat kI4S{.bits = 4, .scale = ScaleKind::kSuperI8, .zero = 8};
inline constexpr PanelFormat kI4H{.bits = 4, .scale = ScaleKind::kSuperI8, .has_table = true, .table = kOddTable};
inline constexpr PanelFormat kI5{.bits = 5, .scale = ScaleKind::kSuperI8, .zero = 16};
inline constexpr PanelFormat kI6{.bits = 6, .scale = ScaleKind::kSuperI8, .zero = 32};
inline constexpr PanelFormat kI8{
    .bits = 4, .scale = ScaleKind::kSuperI8, .has_table = true, .table = kOddTable, .has_low = true};

// The integers of a nested format are bytes of [-68, 67]: 8 * high + low - kNestedZero.
inline constexpr int kNestedZero = 68;

}  // namespace hearth::cpu::formats
