package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	failed, err := run(os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
	}
	if failed || err != nil {
		os.Exit(1)
	}
}

// run executes args (a leading "--" is dropped) and writes the summary of the events that it prints to out. It reports
// whether anything failed.
func run(args []string, out, errOut io.Writer) (failed bool, err error) {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return false, errors.New("usage: testsum -- go test -json PACKAGES")
	}
	// Ctrl-C reaches the whole process group: go test ends by itself, and what it had done is still summed up.
	// (Notify, not Ignore: an ignored signal would stay ignored in the child.)
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = errOut
	events, err := cmd.StdoutPipe()
	if err != nil {
		return false, fmt.Errorf("reading from %s: %w", args[0], err)
	}
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("starting %s: %w", args[0], err)
	}
	sum := NewSummary(out)
	lines := bufio.NewReaderSize(events, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			sum.Line(line)
		}
		if err != nil {
			break
		}
	}
	ended := cmd.Wait()
	sum.Close()
	var exit *exec.ExitError
	if ended != nil && !errors.As(ended, &exit) {
		return true, fmt.Errorf("running %s: %w", args[0], ended)
	}
	return ended != nil || sum.Failed > 0, nil
}
