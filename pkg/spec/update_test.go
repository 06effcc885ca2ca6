package spec

import "flag"

// update rewrites golden files and generated documents instead of comparing with them.
// All tests of this package share it.
var update = flag.Bool("update", false, "rewrite golden files and generated documents")
