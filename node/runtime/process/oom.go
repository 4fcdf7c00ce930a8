package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// scoreFile says how much sooner, or later, the kernel ends this process when memory is short (proc_pid_oom_score_adj(5)). A
// process that is forked begins with its parent's.
const scoreFile = "/proc/self/oom_score_adj"

// Unprotect gives back what protects this process when memory is short, as a service manager may have given it: what it
// forks from then on has no part in it. A process that is to be ended sooner than others stays so.
func Unprotect() error {
	own, err := readScore()
	if err != nil || own >= score.ordinary {
		return err
	}
	return writeScore(score.ordinary)
}

// score lets a protected process fork ones that are not: the attribute is the whole process's, so while one or more of
// its threads fork it is as a child has to have it. Nothing can set it between a fork and the exec.
var score struct {
	sync.Mutex
	ordinary int // what a process has that nobody has said anything about: 0, but in tests
	forking  int // how many fork now
	own      int // what is put back after the last of them, if it is below
}

// forkUnprotected calls fork while this process has no protection that a child would inherit.
func forkUnprotected(fork func() (int, error)) (pid int, err error) {
	if err := elsewhere(lowerGuard); err != nil {
		return 0, err
	}
	defer func() {
		if guardErr := elsewhere(raiseGuard); err == nil && guardErr != nil {
			killChild(pid)
			pid, err = 0, guardErr
		}
	}()
	return fork()
}

// forkScored is forkUnprotected for a process that is to have a score of its own. It has it before what it executes has
// come to begin a process itself.
func forkScored(wanted *int, fork func() (int, error)) (int, error) {
	pid, err := forkUnprotected(fork)
	if err != nil || wanted == nil {
		return pid, err
	}
	return scored(pid, *wanted)
}

// scored gives a child its score, or ends it.
func scored(pid, to int) (int, error) {
	if err := elsewhere(func() error { return setScore(pid, to) }); err != nil {
		killChild(pid)
		return 0, err
	}
	return pid, nil
}

// setScore has a child ended sooner than others, or later. One that has ended needs none.
func setScore(pid, to int) error {
	err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(to)), 0o644)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	if errors.Is(err, os.ErrPermission) && to < score.ordinary {
		return nil // in a container without CAP_SYS_RESOURCE a pod is as any other process
	}
	if err != nil {
		return fmt.Errorf("set how soon process %d is ended when memory is short: %w", pid, err)
	}
	return nil
}

// elsewhere calls f on a thread of its own: the one that forks has another /proc, or none, in the namespaces it entered.
func elsewhere(f func() error) error {
	done := make(chan error)
	go func() { done <- f() }()
	return <-done
}

func lowerGuard() error {
	score.Lock()
	defer score.Unlock()
	if score.forking == 0 {
		own, err := readScore()
		if err != nil {
			return err
		}
		if own < score.ordinary {
			if err := writeScore(score.ordinary); err != nil {
				return err
			}
		}
		score.own = own
	}
	score.forking++
	return nil
}

func raiseGuard() error {
	score.Lock()
	defer score.Unlock()
	if score.forking--; score.forking > 0 || score.own >= score.ordinary {
		return nil
	}
	return writeScore(score.own)
}

// readScore is 0 where the kernel knows no such thing.
func readScore() (int, error) {
	raw, err := os.ReadFile(scoreFile)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read what protects this process when memory is short: %w", err)
	}
	return strconv.Atoi(string(bytes.TrimSpace(raw)))
}

func writeScore(to int) error {
	if err := os.WriteFile(scoreFile, []byte(strconv.Itoa(to)), 0o644); err != nil {
		return fmt.Errorf("set what protects this process when memory is short to %d (CAP_SYS_RESOURCE is needed; or take OOMScoreAdjust out of the unit): %w", to, err)
	}
	return nil
}
