package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis"
	criclient "k8s.io/cri-client/pkg"

	"svcplane/node/runtime"
	"svcplane/node/runtime/cgroup"
	"svcplane/node/runtime/image"
)

// contender is a container runtime.
type contender struct {
	name    string
	runtime cri.RuntimeService
	root    string            // where it keeps what it has
	cgroup  string            // that pods' cgroups are in
	process func(string) bool // says whether a command line is one of its processes, but for what containers run
	close   func() error
}

func contenders(ctx context.Context, o options, archive string) (all []*contender, err error) {
	ours, err := startOurs(ctx, o, archive)
	if err != nil {
		return nil, err
	}
	all = append(all, ours)
	if o.peer == "" {
		return all, nil
	}
	import_ := exec.CommandContext(ctx, "ctr", "-a", o.peer, "-n", "k8s.io", "images", "import", archive)
	if text, err := import_.CombinedOutput(); err != nil {
		return all, fmt.Errorf("importing the image into containerd: %w: %s", err, text)
	}
	peer, err := criclient.NewRemoteRuntimeService(ctx, "unix://"+o.peer, time.Minute, nil, false)
	if err != nil {
		return all, fmt.Errorf("connecting to containerd: %w", err)
	}
	return append(all, &contender{name: "containerd", runtime: peer, root: filepath.Join(o.dir, "containerd"), cgroup: o.cgroup, close: func() error { return peer.Close(context.Background()) },
		process: func(args string) bool { return strings.HasPrefix(filepath.Base(strings.Fields(args)[0]), "containerd") }}), nil
}

func startOurs(ctx context.Context, o options, archive string) (*contender, error) {
	root := filepath.Join(o.dir, "svcplane")
	program, err := filepath.Abs(o.svcplane)
	if err != nil {
		return nil, err
	}
	if _, err := image.NewStore(filepath.Join(root, "images")).Import(ctx, imageName, archive); err != nil {
		return nil, fmt.Errorf("importing the image into our store: %w", err)
	}
	groups := cgroup.New(cgroup.Config{DataDir: root})
	r, err := runtime.New(runtime.Config{Cgroups: groups, DataDir: root, NodeName: "bench", PodCIDR: netip.MustParsePrefix("10.99.0.0/16"), Executable: program})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	c := &contender{name: "svcplane", runtime: r, root: root, cgroup: path.Join(groups.Top(), cgroup.Kubepods, "burstable"), close: func() error {
		cancel()
		return errors.Join(<-ended, runtime.Cleanup(context.Background(), root))
	}, process: func(args string) bool {
		return strings.Contains(args, root) || strings.HasPrefix(args, "bench-pods") || strings.Contains(args, "/bench-pods ")
	}}
	select {
	case <-r.Ready():
		return c, nil
	case err := <-ended:
		return nil, err
	}
}

// memory is what the runtime's processes occupy, shared pages divided among those who share them (proportional set size).
func (c *contender) memory() (bytes int64) {
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well formed
	for _, dir := range dirs {
		line, err := os.ReadFile(dir + "/cmdline")
		if err != nil || len(line) == 0 || !c.process(strings.ReplaceAll(string(line), "\x00", " ")) {
			continue
		}
		bytes += pss(dir)
	}
	return bytes
}

func pss(dir string) int64 {
	text, err := os.ReadFile(dir + "/smaps_rollup")
	if err != nil {
		return 0 // it has ended
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Pss:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64) // the kernel writes numbers
			return kib << 10
		}
	}
	return 0
}

// used is what the files below dir occupy, without other file systems that are mounted there.
func used(dir string) (bytes int64) {
	var top unix.Stat_t
	if err := unix.Stat(dir, &top); err != nil {
		return 0
	}
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		var info unix.Stat_t
		if err != nil || unix.Lstat(path, &info) != nil {
			return nil // it has gone
		}
		if info.Dev != top.Dev {
			return filepath.SkipDir
		}
		bytes += info.Blocks * 512
		return nil
	})
	return bytes
}
