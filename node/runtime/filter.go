package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/process"
	"svcplane/node/runtime/record"
	"svcplane/node/runtime/seccomp"
)

// filterFile is where a container's directory has the filter that was made of a file: the container keeps it, and so does what
// is executed in it, whatever becomes of the file.
const filterFile = "seccomp.json"

// filters remembers the default filter by capabilities: nearly all containers have the same.
type filters struct {
	mu    sync.Mutex
	known map[string]*process.Filter
}

// byDefault is the filter of RuntimeDefault for a container that keeps some capabilities.
func (f *filters) byDefault(kept []string) (*process.Filter, error) {
	key := strings.Join(kept, " ")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f := f.known[key]; f != nil {
		return f, nil
	}
	made, err := seccomp.RuntimeDefault(withPrefix(kept))
	if err != nil {
		return nil, err
	}
	if f.known == nil || len(f.known) > 16 { // whoever tries all capabilities does not fill the memory
		f.known = map[string]*process.Filter{}
	}
	f.known[key] = asFilter(made)
	return f.known[key], nil
}

func asFilter(f seccomp.Filter) *process.Filter {
	if len(f.Program) == 0 {
		return nil
	}
	return &process.Filter{Flags: f.Flags, Program: f.Program}
}

// withPrefix gives capabilities the names of the OCI runtime specification.
func withPrefix(names []string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = "CAP_" + name
	}
	return out
}

// makeFilter makes the filter that a security context asks for; nil: none. As in containerd a privileged container has none.
func (r *Runtime) makeFilter(security *runtimeapi.LinuxContainerSecurityContext) (*process.Filter, error) {
	profile := security.GetSeccomp()
	if profile == nil || security.GetPrivileged() {
		return nil, nil
	}
	kept, err := keptCapabilities(security.GetCapabilities())
	if err != nil {
		return nil, err
	}
	switch profile.GetProfileType() {
	case runtimeapi.SecurityProfile_Unconfined:
		return nil, nil
	case runtimeapi.SecurityProfile_RuntimeDefault:
		return r.filters.byDefault(kept)
	case runtimeapi.SecurityProfile_Localhost:
		made, err := seccomp.Load(profile.GetLocalhostRef(), withPrefix(kept))
		if err != nil {
			return nil, err
		}
		return asFilter(made), nil
	}
	return nil, fmt.Errorf("seccomp profile type %v is not known", profile.GetProfileType())
}

// filter is that of a container: the one that it was made with, if that was recorded.
func (r *Runtime) filter(c *containerEntry) (*process.Filter, error) {
	var kept process.Filter
	switch err := record.Read(filepath.Join(r.store.containerDir(c.ID), filterFile), &kept); {
	case err == nil:
		return &kept, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return r.makeFilter(c.config.GetLinux().GetSecurityContext())
}

// keepFilter records the filter of a container that was made of a file.
func (r *Runtime) keepFilter(c *containerEntry) error {
	security := c.config.GetLinux().GetSecurityContext()
	if security.GetSeccomp().GetProfileType() != runtimeapi.SecurityProfile_Localhost {
		return nil
	}
	filter, err := r.makeFilter(security)
	if err != nil || filter == nil {
		return err
	}
	return record.Write(filepath.Join(r.store.containerDir(c.ID), filterFile), filter)
}
