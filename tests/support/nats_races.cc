// libnats reads from a TLS connection in one thread while another writes to it, without a lock: OpenSSL's fields race there, inside
// libraries that are not instrumented. Thread sanitizer shall look at what is ours.

// NOLINTNEXTLINE(readability-identifier-naming): the sanitizer's name
extern "C" const char* __tsan_default_suppressions();
// NOLINTNEXTLINE(readability-identifier-naming)
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_suppressions() {
  return "race:libssl.so\n"
         "race:libcrypto.so\n"
         "called_from_lib:libnats.so\n";
}
