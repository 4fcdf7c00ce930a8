package shim

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// logFile is a container's log in the CRI format (kubernetes design: kubelet-cri-logging):
// <RFC 3339 time> <stdout|stderr> <P|F> <text>, where P says that the line goes on.
type logFile struct {
	path string

	mu   sync.Mutex
	file *os.File // nil without a path
}

// openLog opens the log for appending, making its directory.
func openLog(path string) (*logFile, error) {
	l := &logFile{path: path}
	return l, l.reopen()
}

// reopen opens the path anew; the old file is kept if that fails. Nothing is written meanwhile: whoever follows the log goes
// over to a new file when it appears, and takes no more lines from the old one.
func (l *logFile) reopen() error {
	if l.path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o755); err != nil {
		return fmt.Errorf("open container log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open container log: %w", err)
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file = f
	return nil
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}

func (l *logFile) write(stream, tag string, text []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	line := make([]byte, 0, len(text)+len(time.RFC3339Nano)+len(stream)+8)
	line = time.Now().UTC().AppendFormat(line, time.RFC3339Nano)
	line = fmt.Appendf(line, " %s %s ", stream, tag)
	line = append(line, text...)
	line = append(line, '\n')
	_, err := l.file.Write(line)
	return err
}

// Write logs whole lines to stdout: the form in which the echo server writes.
func (l *logFile) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if err := l.write("stdout", "F", bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// copy logs what a process writes until its end of file. A log that can't be written (disk full) must not
// block the process, so reading goes on.
func (l *logFile) copy(stream string, from io.Reader) {
	const longest = 16 << 10 // as other runtimes; longer lines are cut into parts
	lines := bufio.NewReaderSize(from, longest)
	for {
		text, err := lines.ReadSlice('\n')
		tag := "F"
		if err != nil { // too long, or the last words of a process that did not end its line
			tag = "P"
		}
		if len(text) > 0 {
			_ = l.write(stream, tag, bytes.TrimSuffix(text, []byte("\n")))
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}
