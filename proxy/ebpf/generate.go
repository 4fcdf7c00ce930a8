package ebpf

import (
	_ "embed"
)

// The file names in the object are relative, so that it is the same wherever it is made.
//go:generate sh -c "cd bpf && clang -O2 -g -Wall -Werror -target bpf -mcpu=v3 -ffile-compilation-dir=. -idirafter /usr/include/$(uname -m)-linux-gnu -c svcplane.c -o svcplane.o && llvm-strip -g svcplane.o"

//go:embed bpf/svcplane.o
var code []byte
