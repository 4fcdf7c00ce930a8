package server

import (
	"fmt"
	"os"
	"sync"
)

// logFile is a file that lines are appended to, and that may be moved away: reopen makes it anew then.
type logFile struct {
	path string // empty: standard output

	mu   sync.Mutex
	file *os.File
}

func openLogFile(path string) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, err
	}
	return &logFile{path: path, file: f}, nil
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Write(p)
}

// reopen goes on with the file as it is when there can be no other.
func (l *logFile) reopen() error {
	if l.path == "" {
		return nil
	}
	next, err := openLogFile(l.path)
	if err != nil {
		return fmt.Errorf("opening the access log anew; lines go where they went: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.file
	l.file = next.file
	return before.Close()
}
