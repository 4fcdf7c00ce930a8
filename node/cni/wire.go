package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"
)

// The commands that are handed over (CNI specification 1.1.0, "Execution Protocol").
const (
	commandAdd    = "ADD"
	commandCheck  = "CHECK"
	commandDel    = "DEL"
	commandGC     = "GC"
	commandStatus = "STATUS"
)

const (
	socketName = "cni.sock"
	// patience is how long a request may take on both sides: containerd gives a pod's network two minutes.
	patience = time.Minute
	maxBytes = 1 << 20 // of a request or an answer
)

// question is what a plugin was executed for. The network namespace comes with it as a file.
type question struct {
	Command     string          `json:"command"`
	ContainerID string          `json:"containerID,omitempty"`
	Netns       string          `json:"netns,omitempty"` // its path where the plugin runs
	IfName      string          `json:"ifName,omitempty"`
	Args        string          `json:"args,omitempty"`
	Config      json.RawMessage `json:"config"`
}

// answer has one of its fields, or none if there is nothing to say.
type answer struct {
	Result *types100.Result `json:"result,omitempty"`
	Error  *types.Error     `json:"error,omitempty"`
}

// socketPath is short whatever the directory: addresses of unix sockets hold 107 bytes. It holds as long as folder is open.
func socketPath(folder *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), socketName)
}

// errDown is a server that does not listen.
var errDown = errors.New("svcplane does not run")

// dial connects to the server of a directory.
func dial(dir string) (*net.UnixConn, error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDown, err)
	}
	defer folder.Close()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: socketPath(folder)})
	if err != nil {
		return nil, fmt.Errorf("%w: nobody listens on %s", errDown, filepath.Join(dir, socketName))
	}
	return conn, nil
}

// ask sends a question, with a file if there is one, and reads the answer.
func ask(conn *net.UnixConn, q question, file *os.File) (answer, error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return answer{}, err
	}
	raw, err := json.Marshal(q)
	if err != nil {
		return answer{}, err
	}
	var rights []byte
	if file != nil {
		rights = unix.UnixRights(int(file.Fd()))
	}
	// files go with the first byte
	if _, _, err := conn.WriteMsgUnix(raw[:1], rights, nil); err != nil {
		return answer{}, fmt.Errorf("asking the server: %w", err)
	}
	if _, err := conn.Write(raw[1:]); err != nil {
		return answer{}, fmt.Errorf("asking the server: %w", err)
	}
	if err := conn.CloseWrite(); err != nil {
		return answer{}, fmt.Errorf("asking the server: %w", err)
	}
	var a answer
	if err := json.NewDecoder(io.LimitReader(conn, maxBytes)).Decode(&a); err != nil {
		return answer{}, fmt.Errorf("reading the server's answer: %w", err)
	}
	return a, nil
}

// hear reads a question, and the file that came with it or nil.
func hear(conn *net.UnixConn) (q question, file *os.File, err error) {
	first, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	n, took, _, _, err := conn.ReadMsgUnix(first, rights)
	if err != nil || n == 0 {
		return q, nil, fmt.Errorf("reading a request: %w", errors.Join(err, io.ErrUnexpectedEOF))
	}
	if file, err = received(rights[:took]); err != nil {
		return q, nil, err
	}
	rest, err := io.ReadAll(io.LimitReader(conn, maxBytes))
	if err == nil {
		err = json.Unmarshal(append(first, rest...), &q)
	}
	if err != nil {
		if file != nil {
			file.Close()
		}
		return q, nil, fmt.Errorf("reading a request: %w", err)
	}
	return q, file, nil
}

func received(rights []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return nil, err
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "netns"), nil
}
