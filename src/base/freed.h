// Objects of C libraries in std::unique_ptr: std::unique_ptr<BIO, Freed<BIO_free_all>>.
#pragma once

#include <memory>

namespace hearth {

template <auto kFree>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};

}  // namespace hearth
