package measure

import (
	"os"
	"path/filepath"
	"strings"
)

// ReadCores counts sockets and cores; 0: this machine does not tell.
func ReadCores() (sockets, cores int) {
	folders, err := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/topology")
	if err != nil {
		return 0, 0
	}
	packages, all := map[string]bool{}, map[string]bool{}
	for _, folder := range folders {
		socket, err := os.ReadFile(filepath.Join(folder, "physical_package_id"))
		core, coreErr := os.ReadFile(filepath.Join(folder, "core_id"))
		if err != nil || coreErr != nil {
			return 0, 0
		}
		packages[strings.TrimSpace(string(socket))] = true
		all[string(socket)+string(core)] = true
	}
	return len(packages), len(all)
}
