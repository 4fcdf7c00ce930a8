package server

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// signals are those that end a program by default, and that a server outlives: the terminal or ssh session that it was
// started from is closed (SIGHUP), and whoever read its output has gone (SIGPIPE). A handler, and not SIG_IGN, is what
// processes that it starts do not inherit.
//
//	SIGTERM, SIGINT   orderly end
//	SIGHUP, SIGUSR1   log files are opened anew, as logrotate asks of daemons
//	SIGPIPE           the write fails, and that is all
//	SIGQUIT           the Go runtime's: an end at once, with what every goroutine does
//	SIGTSTP, SIGCONT  the shell's job control, as of any program; what runs in pods and in the kernel goes on
//
// Every other one that can be caught does nothing (os/signal).
type signals struct {
	mu     sync.Mutex
	hangup func()
}

// onHangup is what SIGHUP has done from now on.
func (s *signals) onHangup(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hangup = do
}

// outlive has the process outlive them until the function is called that it returns.
func (s *signals) outlive() (stop func()) {
	broken, hangup := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE) // nobody reads it: a write that is in vain says so itself
	signal.Notify(hangup, syscall.SIGHUP, syscall.SIGUSR1)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-hangup:
				s.mu.Lock()
				do := s.hangup
				s.mu.Unlock()
				if do != nil {
					do()
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(broken)
		signal.Stop(hangup)
		close(done)
	}
}
