package shim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"svcplane/node/runtime/process"
)

// The files have the name that the shim had in earlier releases, whose shims outlive an upgrade.
const (
	socketName = "holder.sock"
	lockName   = "holder.lock"
	pidName    = "holder.json"
	logName    = "holder.log"
)

// Client talks to the shim of one directory.
type Client struct {
	dir  string
	http *http.Client
}

// NewClient makes a client for the shim of dir, which need not run yet.
func NewClient(dir string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialSocket(ctx, dir)
	}
	return &Client{dir: dir, http: &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 4, IdleConnTimeout: time.Minute}}}
}

// dialSocket connects by a short path: unix socket addresses hold 107 bytes, data directories may be longer.
func dialSocket(ctx context.Context, dir string) (net.Conn, error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the shim's directory: %w", err)
	}
	defer folder.Close()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), socketName))
}

// Find gives the shim that runs for dir, or process.ErrGone.
func Find(dir string) (process.ID, error) {
	raw, err := os.ReadFile(filepath.Join(dir, pidName))
	if err != nil {
		return process.ID{}, process.ErrGone
	}
	var id process.ID
	if err := json.Unmarshal(raw, &id); err != nil || !id.Alive() {
		return process.ID{}, process.ErrGone
	}
	return id, nil
}

// Start runs a shim for dir from executable and waits until it answers. One that runs already is kept.
func Start(ctx context.Context, executable, dir string) error {
	client := NewClient(dir)
	defer client.http.CloseIdleConnections()
	if _, err := client.State(ctx); err == nil {
		return nil
	}
	logFile, err := os.OpenFile(filepath.Join(dir, logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start the shim: %w", err)
	}
	defer logFile.Close()
	command := exec.Command(executable, Arg, dir)
	command.Stdout, command.Stderr, command.Dir = logFile, logFile, "/"
	// A session of its own: it is to outlive the server, and signals to the server's process group.
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return fmt.Errorf("start the shim: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	const patience = 15 * time.Second
	deadline := time.Now().Add(patience)
	for {
		if _, err = client.State(ctx); err == nil {
			return nil
		}
		select {
		case end := <-ended:
			return fmt.Errorf("start the shim: it ended at once (%w); see %s", end, logFile.Name())
		case <-ctx.Done():
			return fmt.Errorf("start the shim: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("start the shim: no answer in %s: %w; see %s", patience, err, logFile.Name())
		}
	}
}

// State gives all the shim has.
func (c *Client) State(ctx context.Context) (State, error) {
	var s State
	err := c.do(ctx, http.MethodGet, "/state", nil, &s)
	return s, err
}

// StateOf gives what the shim has of one sandbox, or of one container; an earlier shim gives all. Its Seq says nothing.
func (c *Client) StateOf(ctx context.Context, id string) (State, error) {
	var s State
	err := c.do(ctx, http.MethodGet, "/state?of="+url.QueryEscape(id), nil, &s)
	return s, err
}

// Wait returns the state when its Seq is not after any more, or after half a minute.
func (c *Client) Wait(ctx context.Context, after uint64) (State, error) {
	var s State
	err := c.do(ctx, http.MethodGet, "/state?after="+strconv.FormatUint(after, 10), nil, &s)
	return s, err
}

// AddSandbox makes the shim keep a pod's namespaces.
func (c *Client) AddSandbox(ctx context.Context, spec SandboxSpec) (Sandbox, error) {
	var s Sandbox
	err := c.do(ctx, http.MethodPost, "/sandboxes", spec, &s)
	if err == nil && spec.Namespaces.User != "" && s.Namespaces.User == "" {
		return s, errors.Join(tooOld(needUsers), c.RemoveSandbox(ctx, spec.ID))
	}
	return s, err
}

// RemoveSandbox lets go of a pod's namespaces; an unknown ID is no error.
func (c *Client) RemoveSandbox(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "/sandboxes/"+url.PathEscape(id), nil, nil)
}

// StartContainer runs a container.
func (c *Client) StartContainer(ctx context.Context, spec ContainerSpec) (ContainerStatus, error) {
	var s ContainerStatus
	needs := strings.Join(spec.needs(), ",")
	if needs == "" {
		err := c.do(ctx, http.MethodPost, "/containers", spec, &s)
		return s, err
	}
	err := c.do(ctx, http.MethodPost, "/containers-with/"+needs, spec, &s)
	if errors.Is(err, errNoSuchPath) {
		err = tooOld(needs)
	}
	return s, err
}

// StopContainer ends a container, by force after grace, and returns when it has ended. An unknown ID is no
// error.
func (c *Client) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	return c.do(ctx, http.MethodPost, "/containers/"+url.PathEscape(id)+"/stop", stopRequest{GraceMillis: grace.Milliseconds()}, nil)
}

// RemoveContainer forgets a container, killing it if it runs; an unknown ID is no error.
func (c *Client) RemoveContainer(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "/containers/"+url.PathEscape(id), nil, nil)
}

// ReopenLog opens the container's log file anew, after it was renamed.
func (c *Client) ReopenLog(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPost, "/containers/"+url.PathEscape(id)+"/reopen-log", nil, nil)
}

// Env gives the process whose namespaces an exec into the container has to enter. root is for a container
// that has none yet; its mount namespace is the asking server's.
func (c *Client) Env(ctx context.Context, id string, root RootSpec) (process.ID, error) {
	var e envReply
	err := c.do(ctx, http.MethodPost, "/containers/"+url.PathEscape(id)+"/env", root, &e)
	if err == nil && root.View != nil && !e.View {
		return process.ID{}, errors.New("the shim of these containers is of an earlier version and can't keep this one from the host's root: delete the pod, or restart all with svcplane cleanup")
	}
	if err == nil && root.Users != nil && !e.Users {
		return process.ID{}, tooOld(needUsers)
	}
	return e.Init, err
}

// errNoSuchPath is a shim's that does not know the request.
var errNoSuchPath = errors.New("the shim does not know this request")

func tooOld(needs string) error {
	return Refusal("the shim of this machine's containers is of an earlier version and can't hold this one to its restrictions (" + needs +
		"): stop the server and run svcplane cleanup, which ends all pods; they start again with the server")
}

// Refusal is an error that the shim itself gave: it did not do what it was asked for.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// do makes one request. A refusal carries the shim's own message.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("ask the shim: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://shim"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the shim: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("ask the shim in %s: %w", c.dir, err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("ask the shim in %s: %w", c.dir, err)
	}
	if response.StatusCode != http.StatusOK {
		var f failure
		if response.StatusCode == http.StatusNotFound {
			return fmt.Errorf("ask the shim in %s: %w", c.dir, errNoSuchPath)
		}
		if err := json.Unmarshal(raw, &f); err != nil || f.Error == "" {
			return fmt.Errorf("ask the shim in %s: %s", c.dir, response.Status)
		}
		return Refusal(f.Error)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("read the shim's answer: %w", err)
	}
	return nil
}

// End ends the shim of dir and its containers, if one runs: in order, and if it does not do that in time,
// by force. In the latter case the containers' processes have to be ended on their own.
func End(ctx context.Context, dir string) error {
	id, err := Find(dir)
	if err != nil {
		return nil
	}
	const patience = 10 * time.Second
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := id.Signal(sig); errors.Is(err, process.ErrGone) {
			return nil
		} else if err != nil {
			return fmt.Errorf("end the shim: %w", err)
		}
		limited, cancel := context.WithTimeout(ctx, patience)
		err = id.Wait(limited)
		cancel()
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("end the shim (process %d): %w", id.PID, err)
}
