// The library's only exported name; the ops register themselves when it is loaded.
#define KDOPS_TEXT_(x) #x
#define KDOPS_TEXT(x) KDOPS_TEXT_(x)

extern "C" __attribute__((visibility("default"))) const char* kdops_cuda_level() {
  return KDOPS_TEXT(KDOPS_CUDA_ARCHITECTURES);  // setup.py's, like 8.0 9.0+PTX
}
