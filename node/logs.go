package node

import (
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"svcplane/disk"
)

// LogPolicy says how long the log of a container gets, by the kubelet's containerLogMaxSize and containerLogMaxFiles.
type LogPolicy struct {
	MaxSize  int64 // octets of a file; less than 0: it is never rotated
	MaxFiles int   // of one instance of a container, the present one included
}

// DefaultLogPolicy is the kubelet's.
func DefaultLogPolicy() LogPolicy { return LogPolicy{MaxSize: 10 << 20, MaxFiles: 5} }

// rotateEvery is the kubelet's containerLogMonitorInterval.
const rotateEvery = 10 * time.Second

// logPath is the log of one instance of a container, below the pod's log directory.
func logPath(container string, attempt uint32) string {
	return filepath.Join(container, strconv.FormatUint(uint64(attempt), 10)+".log")
}

// nextAttempt continues the numbers in a log directory when the runtime has forgotten the container: an
// older log must not be written over.
func nextAttempt(dir string) uint32 {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	next := uint32(0)
	for _, e := range entries {
		if n, ok := attemptOf(e.Name()); ok && n >= next {
			next = n + 1
		}
	}
	return next
}

// attemptOf reads the number of the instance that a log, rotated or not, belongs to.
func attemptOf(file string) (uint32, bool) {
	number, rest, ok := strings.Cut(file, ".")
	n, err := strconv.ParseUint(number, 10, 32)
	return uint32(n), ok && err == nil && strings.HasPrefix(rest, "log")
}

// rotateLogs looks at the logs of running containers from time to time until ctx ends.
func (n *Node) rotateLogs(ctx context.Context) {
	ticker := time.NewTicker(rotateEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		containers, err := n.listContainers(ctx)
		if err != nil {
			continue // the relist reports it
		}
		for _, c := range containers {
			if !listedRunning(c) {
				continue
			}
			if err := n.rotateLog(ctx, c.Id); err != nil && ctx.Err() == nil {
				klog.ErrorS(err, "Rotating a container's log", "container", c.Id)
			}
		}
	}
}

func (n *Node) rotateLog(ctx context.Context, id string) error {
	resp, err := n.cfg.Runtime.ContainerStatus(ctx, id, false)
	if err != nil {
		if gone(err) {
			return nil
		}
		return err
	}
	path := resp.GetStatus().GetLogPath()
	info, err := os.Stat(path)
	if err != nil || info.Size() < n.cfg.Logs.MaxSize {
		return nil // not there, or not yet
	}
	if err := compressRotated(path, n.cfg.Logs.MaxFiles); err != nil {
		return err
	}
	rotated := path + "." + time.Now().UTC().Format("20060102-150405.000")
	if err := os.Rename(path, rotated); err != nil {
		return fmt.Errorf("rotating %s: %w", path, err)
	}
	if err := n.cfg.Runtime.ReopenContainerLog(ctx, id); err != nil {
		// The process still writes into the renamed file: give it its name back and try again later.
		return errors.Join(fmt.Errorf("reopening the log of container %s: %w", id, err), os.Rename(rotated, path))
	}
	return nil
}

// compressRotated makes room for one more rotated log: the oldest go, all but the youngest are compressed.
func compressRotated(path string, files int) error {
	rotated, err := filepath.Glob(path + ".*")
	if err != nil {
		return fmt.Errorf("listing rotated logs of %s: %w", path, err)
	}
	slices.SortFunc(rotated, func(a, b string) int { return cmp.Compare(b, a) })
	for i, file := range rotated {
		switch {
		case i >= files-2:
			err = os.Remove(file)
		case !strings.HasSuffix(file, ".gz"):
			if err = compress(file); disk.NoSpace(err) {
				err = os.Remove(file) // there is no room to make it smaller: it makes some
			}
		}
		if err != nil {
			return fmt.Errorf("making room for a rotated log: %w", err)
		}
	}
	return nil
}

func compress(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path+".gz", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	if err = errors.Join(err, z.Close(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return os.Remove(path)
}

// dropLogs removes the logs of instances of a container older than oldest.
func dropLogs(dir string, oldest uint32) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if n, ok := attemptOf(e.Name()); ok && n < oldest {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				klog.ErrorS(err, "Removing an old log")
			}
		}
	}
}
