package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"svcplane/node/runtime/footprint"
	"svcplane/node/runtime/process"
)

// Main is the shim process: it serves dir until it is killed and returns an exit code.
func Main(dir string) int {
	// Memory is what limits how many pods fit: collect early, give back what start-up took.
	debug.SetGCPercent(25)
	// Handled, and not ignored: what is ignored would be ignored by every process in a pod, too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	process.DefaultSignals()
	// Nor is the shim spared when memory is short, as the server may be: what it holds, and serves itself, are pods.
	if err := process.Unprotect(); err != nil {
		fmt.Fprintf(os.Stderr, "%s shim: %v\n", time.Now().UTC().Format(time.RFC3339), err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, dir); err != nil {
		fmt.Fprintf(os.Stderr, "%s shim: %v\n", time.Now().UTC().Format(time.RFC3339), err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open the shim's directory: %w", err)
	}
	defer folder.Close()
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	s, err := newShim()
	if err != nil {
		return err
	}
	if err := s.record(dir); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, socketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove an old socket: %w", err)
	}
	unix.Umask(0o077)
	listener, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), socketName))
	if err != nil {
		return fmt.Errorf("listen on %s: %w", filepath.Join(dir, socketName), err)
	}
	unix.Umask(0o022)
	go trim(ctx)
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", filepath.Join(dir, socketName), err)
	}
	s.close()
	return nil
}

// close ends all containers.
func (s *shim) close() {
	for _, held := range s.state().Sandboxes {
		s.removeSandbox(held.ID)
	}
}

func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the shim's directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("lock %s: another shim has it: %w", path, err)
	}
	return lock, nil
}

// record writes who the shim is, for Find.
func (s *shim) record(dir string) error {
	raw, err := json.Marshal(s.self)
	if err != nil {
		return fmt.Errorf("record the shim: %w", err)
	}
	path := filepath.Join(dir, pidName)
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return fmt.Errorf("record the shim: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("record the shim: %w", err)
	}
	return nil
}

// trim gives unused memory back to the system, soon after the start and then now and again.
func trim(ctx context.Context) {
	for wait := time.Second; ; wait = min(2*wait, 5*time.Minute) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
			if err := footprint.Shrink(); err != nil {
				fmt.Fprintf(os.Stderr, "%s shim: giving memory back, which ends with this: %v\n", time.Now().UTC().Format(time.RFC3339), err)
				return
			}
		}
	}
}

func (s *shim) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if of := query.Get("of"); of != "" {
			reply(w, s.stateOf(of), nil)
			return
		}
		after, err := strconv.ParseUint(query.Get("after"), 10, 64)
		if err != nil {
			reply(w, s.state(), nil)
			return
		}
		reply(w, s.stateAfter(r.Context(), after), nil)
	})
	mux.HandleFunc("POST /sandboxes", with(func(_ *http.Request, spec SandboxSpec) (any, error) { return s.addSandbox(spec) }))
	mux.HandleFunc("DELETE /sandboxes/{id}", func(w http.ResponseWriter, r *http.Request) {
		s.removeSandbox(r.PathValue("id"))
		reply(w, nil, nil)
	})
	mux.HandleFunc("POST /containers", with(func(r *http.Request, spec ContainerSpec) (any, error) {
		return s.startContainer(r.Context(), spec)
	}))
	mux.HandleFunc("POST /containers-with/{needs}", with(func(r *http.Request, spec ContainerSpec) (any, error) {
		if need, unknown := unknownNeed(r.PathValue("needs")); unknown {
			return nil, tooOld(need)
		}
		return s.startContainer(r.Context(), spec)
	}))
	mux.HandleFunc("POST /containers/{id}/stop", with(func(r *http.Request, stop stopRequest) (any, error) {
		return nil, s.stopContainer(r.Context(), r.PathValue("id"), time.Duration(stop.GraceMillis)*time.Millisecond)
	}))
	mux.HandleFunc("POST /containers/{id}/reopen-log", func(w http.ResponseWriter, r *http.Request) {
		reply(w, nil, s.reopenLog(r.PathValue("id")))
	})
	mux.HandleFunc("POST /containers/{id}/env", with(func(r *http.Request, root RootSpec) (any, error) {
		init, err := s.env(r.PathValue("id"), root)
		return envReply{Init: init, View: root.View != nil, Users: root.Users != nil}, err
	}))
	mux.HandleFunc("POST /containers/{id}/attach", s.attach)
	mux.HandleFunc("DELETE /containers/{id}", func(w http.ResponseWriter, r *http.Request) {
		s.removeContainer(r.PathValue("id"))
		reply(w, nil, nil)
	})
	return mux
}

// with decodes the request's body for fn and sends its answer.
func with[T any](fn func(*http.Request, T) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in T
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			reply(w, nil, fmt.Errorf("read request: %w", err))
			return
		}
		out, err := fn(r, in)
		reply(w, out, err)
	}
}

func reply(w http.ResponseWriter, out any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		out = failure{Error: err.Error()}
	}
	// The server may be gone by now; it will ask again when it is back.
	_ = json.NewEncoder(w).Encode(out)
}
