package server

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	stdlog "log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/grpclog"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/klog/v2"
)

// quietBelow is the verbosity from which everything is logged as it comes.
const quietBelow = 2

// bootLog holds back what upstream components say while they wait for each other at the start and at the
// end: "namespace not found, will retry" is no news then. If the start fails or takes long, all of it is shown.
type bootLog struct {
	mu    sync.Mutex
	to    io.Writer
	held  bytes.Buffer
	quiet bool
	all   bool // also what is no news to anybody
}

// maxHeld bounds what is kept of a start that does not come to an end.
const maxHeld = 256 << 10

func (b *bootLog) Write(p []byte) (int, error) {
	if !b.all && isNoNews(p) {
		return len(p), nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.quiet {
		return b.to.Write(p)
	}
	if b.held.Len()+len(p) <= maxHeld {
		b.held.Write(p)
	}
	return len(p), nil
}

// noNews are lines, by two of their parts, that upstream writes as errors when nothing is wrong: kubectl exec has ended, a
// client has gone away before its answer was ready, a namespace or a CustomResourceDefinition is being deleted.
var noNews = [][2]string{
	{"Error on socket receive", "use of closed network connection"},
	{"Error proxying data from client to backend", "broken pipe"},
	{"post-timeout activity", "err: context canceled"},
	{"Post-timeout activity", "result=null"},
	{"apiserver was unable to write", "http: Handler timeout"},
	{"Failed to watch", "the server could not find the requested resource"}, // the kind's definition was deleted
	{"unable to create new content in namespace", "because it is being terminated"},
	{"Resetting endpoints for master service", "kubernetes"},                       // the node's address changed
	{"Deletion of namespace failed", "unexpected items still remain in namespace"}, // its pods have their grace periods
	{"Server rejected event", "reading and deleting go on"},                        // the disk is full, which is said once
	{`failed with replicasets.apps`, "not found"},                                  // deleted while it was looked at
	{"apiserver received an error that is not an metav1.Status", "http: Handler timeout"},
}

func isNoNews(line []byte) bool {
	for _, parts := range noNews {
		if bytes.Contains(line, []byte(parts[0])) && bytes.Contains(line, []byte(parts[1])) {
			return true
		}
	}
	return false
}

// open lets everything through from now on and forgets what was held.
func (b *bootLog) open() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.quiet = false
	b.held = bytes.Buffer{}
}

// close holds back again.
func (b *bootLog) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.quiet = true
}

// slowStart is when a start that is not done says what there is to say.
const slowStart = 30 * time.Second

// reveal is for a start that does not come to an end: it writes what is held, and what comes from now on.
func (b *bootLog) reveal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.quiet {
		return
	}
	b.quiet = false
	fmt.Fprintf(b.to, "not ready after %v: `svcplane status` says which part it waits for; what was said until now:\n", slowStart)
	b.held.WriteTo(b.to)
}

// spill writes what is held.
func (b *bootLog) spill() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held.WriteTo(b.to)
}

// setUpLogging sends what needs attention to stderr, and everything with a verbosity of 2 or more.
func setUpLogging(verbosity int) *bootLog {
	log := &bootLog{to: os.Stderr, quiet: verbosity < quietBelow, all: verbosity >= quietBelow}
	fs := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(fs)
	settings := map[string]string{"v": strconv.Itoa(verbosity)}
	if log.quiet {
		// klog without -logtostderr writes each severity to its own writer.
		settings["logtostderr"] = "false"
		settings["one_output"] = "true"
		settings["stderrthreshold"] = "FATAL"
	}
	for name, value := range settings {
		if err := fs.Set(name, value); err != nil {
			panic("klog has no flag " + name) // a mistake in this function, not in its input
		}
	}
	if log.quiet {
		klog.SetOutputBySeverity("INFO", io.Discard)
		for _, severity := range []string{"WARNING", "ERROR", "FATAL"} {
			klog.SetOutputBySeverity(severity, log)
		}
		// gRPC reports every connection to the store that its own side gave up.
		grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, log))
	}
	// net/http tells there what endpoints send that nobody asked for
	stdlog.SetFlags(0)
	stdlog.SetOutput(quotedLog{})
	// the first handler is the one that logs; the others limit its rate
	utilruntime.ErrorHandlers[0] = logUnhandled
	return log
}

// quotedLog takes what packages tell the standard logger, as one line with what cannot be shown escaped.
type quotedLog struct{}

func (quotedLog) Write(p []byte) (int, error) {
	klog.V(quietBelow).InfoS(strings.TrimSpace(string(p)))
	return len(p), nil
}

// logUnhandled logs what upstream components report and try again, unless the next try is all it takes.
func logUnhandled(ctx context.Context, err error, msg string, keysAndValues ...any) {
	logger := klog.FromContext(ctx).WithCallDepth(3)
	if passing(err) {
		logger.V(quietBelow).Info(msg, append(keysAndValues, "err", err)...)
		return
	}
	logger.Error(err, msg, keysAndValues...)
}

// passing says whether an error means no more than that somebody else wrote first, or that a cache is a moment
// behind what its controller has just written.
func passing(err error) bool {
	return apierrors.IsConflict(err) || err != nil && strings.Contains(err.Error(), "is not as new as written version")
}
