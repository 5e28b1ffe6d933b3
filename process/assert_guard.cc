// Asserts are part of Chorus in every build: an invariant that breaks ends the process, and the
// launcher deals with it. A build that would drop them does not compile.
#ifdef NDEBUG
#error "NDEBUG is defined: build with a preset of CMakePresets.json, asserts stay on"
#endif
