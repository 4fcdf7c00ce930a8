package runtime

import "svcplane/node/runtime/shim"

// Main runs the process that this binary was executed again for, if args (os.Args) say so: call it before
// anything else. handled tells whether they did, code is then the exit code.
func Main(args []string) (handled bool, code int) {
	if len(args) != 3 || args[1] != shim.Arg && args[1] != shim.EarlierArg {
		return false, 0
	}
	return true, shim.Main(args[2])
}
