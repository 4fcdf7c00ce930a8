package runtime

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/process"
)

// usersOf gives the users of a pod that has a user namespace of its own, else nil.
func usersOf(config *runtimeapi.PodSandboxConfig) (*process.IDs, error) {
	options := namespaceMode(config).GetUsernsOptions()
	if options == nil || options.GetMode() != runtimeapi.NamespaceMode_POD {
		return nil, nil
	}
	if err := usersSupported(); err != nil {
		return nil, err
	}
	uids, gids := options.GetUids(), options.GetGids()
	if len(uids) != 1 || len(gids) != 1 || uids[0].GetContainerId() != 0 || uids[0].GetLength() == 0 ||
		uids[0].GetContainerId() != gids[0].GetContainerId() || uids[0].GetHostId() != gids[0].GetHostId() || uids[0].GetLength() != gids[0].GetLength() {
		return nil, errors.New("the pod's user namespace must have one range of users, from 0 on, and the same of groups")
	}
	if uint64(uids[0].GetHostId())+uint64(uids[0].GetLength()) > 1<<32 {
		return nil, fmt.Errorf("the pod's users begin at %d, and there are no %d from there on", uids[0].GetHostId(), uids[0].GetLength())
	}
	return &process.IDs{Base: uids[0].GetHostId(), Count: uids[0].GetLength()}, nil
}

// usersSupported says why this kernel has no user namespaces for pods, or nil. Before Linux 5.19 the layers of images can't be
// shown with other owners; a file system that cannot is found when it is mounted.
func usersSupported() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("ask the kernel for its version: %w", err)
	}
	var major, minor int
	release := unix.ByteSliceToString(u.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil || major < 5 || major == 5 && minor < 19 {
		return fmt.Errorf("user namespaces for pods need Linux 5.19 or later, and this is %s; remove hostUsers: false", release)
	}
	if err := unix.Access("/proc/self/ns/user", unix.F_OK); err != nil {
		return errors.New("this kernel is built without user namespaces; remove hostUsers: false")
	}
	return nil
}
